"""A walk explained, as a plain record: numbers, names and sentences for reports, nothing of the model in it.

Addresses and entries are hexadecimal strings, because readers of JSON lose the low bits of large numbers. See
docs/reference/walk.md for the fields.
"""

from typing import Any

from quire.arch import (
    EPTP,
    Access,
    ExitReason,
    PagingMode,
    Vector,
    describe_exit,
    describe_page_fault,
    entry_layout,
    ept_layout,
    level_shift,
    linear_width,
)
from quire.arch.address_parts import likely_c_bit
from quire.arch.faults import PF_ERROR
from quire.errors import MisuseError
from quire.paging.address_split import address_split
from quire.paging.context import Context, Dimension, Rights, Status, Words
from quire.paging.culprits import culprits
from quire.paging.linear_address import lass_forbids, masked_address
from quire.paging.overlay import Overlay, ReadableWords
from quire.paging.reference import load_pdptes, reference_walk, walk_gpa
from quire.paging.rules import RULES
from quire.paging.settings import SETTINGS
from quire.paging.walk_record import Reference, WalkRecord
from quire.paging.width import turning_widths

__all__ = ["explain", "explain_gpa", "explanation", "rights_letters"]

_MODES = {
    PagingMode.NONE: "no paging",
    PagingMode.BITS_32: "32-bit paging",
    PagingMode.PAE: "PAE paging",
    PagingMode.LEVEL_4: "4-level paging",
    PagingMode.LEVEL_5: "5-level paging",
}
_LETTERS = ((Rights.READ, "R"), (Rights.WRITE, "W"), (Rights.EXECUTE, "X"))
_ADDRESS_BITS = 52  # that an entry has for an address
_SHARED = 1 << 51  # of a TD with 52 guest-physical address bits
_VE_WORDS = 5  # of the virtualization-exception information area, SDM 3C §25.5.7.2
_PDPTES = (Context.PDPTE0, Context.PDPTE1, Context.PDPTE2, Context.PDPTE3)
_WITH_CODE = (Status.PAGE_FAULT, Status.EPT_VIOLATION, Status.VIRTUALIZATION_EXCEPTION, Status.SPP_EVENT)
_EXITS = {
    Status.EPT_VIOLATION: ExitReason.EPT_VIOLATION,
    Status.EPT_MISCONFIGURATION: ExitReason.EPT_MISCONFIGURATION,
    Status.LOG_FULL: ExitReason.PAGE_MODIFICATION_LOG_FULL,
    Status.SPP_EVENT: ExitReason.SPP_RELATED_EVENT,
}


def explain(memory: ReadableWords, context: Words, gva: int, access: Access) -> dict[str, Any]:
    """Return the record of one walk as it would be; `memory` and `context` stay as they are.

    In PAE paging the PDPTE registers are loaded from CR3 first, unless `context` has any of them. Raises MisuseError
    when EPT violations are to become #VE and there is no memory for the information area.
    """
    state = context.copy()
    state[Context.UPDATE] = 1
    _check_information_area(memory, state)
    tagged, numbers = gva, state.tolist()
    gva = masked_address(numbers, gva, access)
    if lass_forbids(numbers, gva, access):
        mode = PagingMode(numbers[Context.MODE])
        vector = Vector.SS if numbers[Context.STACK] else Vector.GP
        refused = WalkRecord(
            gva, access, mode, status=Status.NON_CANONICAL, rule=RULES["LASS"], vector=vector
        )
        return explanation(refused, context)
    overlay = Overlay(memory)
    mode = PagingMode(int(state[Context.MODE]))
    loaded: list[Reference] = []
    if mode is PagingMode.PAE and not any(state[field] for field in _PDPTES):
        load = load_pdptes(overlay, state)
        load.gva, load.access = gva, access
        if load.status is not Status.OK:
            return explanation(load, context, overlay)
        loaded = load.references
    walk = reference_walk(overlay, state, gva, access)
    walk.references[:0] = loaded
    record = explanation(walk, context, overlay)
    record["metadata"] = None if tagged == gva else f"{tagged:#018x}"
    with_pdptes = context.copy()
    with_pdptes[_PDPTES[0] : _PDPTES[-1] + 1] = state[_PDPTES[0] : _PDPTES[-1] + 1]
    record["other_widths"] = turning_widths(memory, with_pdptes, gva, access, walk)
    return record


def explain_gpa(memory: ReadableWords, context: Words, gpa: int, access: Access) -> dict[str, Any]:
    """Return the record of EPT's walk alone, for guest-physical address `gpa`: no linear address is translated."""
    state = context.copy()
    state[Context.MODE] = PagingMode.NONE
    _check_information_area(memory, state)
    overlay = Overlay(memory)
    record = explanation(walk_gpa(overlay, state, gpa, access), state, overlay)
    split = address_split(gpa, _ept_mode(int(state[Context.EPTP])), ept=True)
    return record | {"gva": None, "gpa": f"{gpa:#x}", "split": split}


def _check_information_area(memory: ReadableWords, state: Words) -> None:
    """A #VE writes 5 words there: the walk takes for granted that they exist."""
    if not state[Context.VE]:
        return
    area = int(state[Context.VE_INFO])
    try:
        for n in range(_VE_WORDS):
            memory[(area >> 3) + n]
    except IndexError:
        raise MisuseError(
            f"There is no memory for the virtualization-exception information area at {area:#x}: "
            "set ve_info to the address of a page that is there, or ve=0"
        ) from None


def explanation(walk: WalkRecord, context: Words, overlay: Overlay | None = None) -> dict[str, Any]:
    """Return what `walk` under `context` says, as a record; `overlay` holds what the walk wrote."""
    state = context.tolist()
    eptp = state[Context.EPTP]
    return {
        "gva": f"{walk.gva:#018x}",
        "gpa": None,
        "access": walk.access.name.lower().replace("_", "-"),
        "user": bool(state[Context.USER]) and not state[Context.IMPLICIT],
        "paging": _MODES[walk.mode],
        "cr3": f"{state[Context.CR3]:#x}",
        "eptp": f"{eptp:#x}" if eptp else None,
        "maxphyaddr": _ADDRESS_BITS - state[Context.RESERVED].bit_count(),
        "ept_levels": int(_ept_mode(eptp)) if eptp else None,
        "split": address_split(walk.gva, walk.mode),
        "ept_split": address_split(walk.gpa, _ept_mode(eptp), ept=True) if eptp else None,
        "settings": _settings(state),
        "status": walk.status.name,
        "references": _references(walk, bool(state[Context.MBEC]), overlay.written if overlay else {}),
        "rule": {"name": walk.rule.name, "section": walk.rule.section, "text": walk.rule.text},
        "culprits": culprits(walk, state),
        "likely_c_bit": _likely_c_bit(walk),
        "ended_at": _ended_at(walk),
        "fault": None if walk.status is Status.OK else _fault(walk),
        "result": _result(walk, bool(eptp)) if walk.status is Status.OK else None,
    }


def _ept_mode(eptp: int) -> PagingMode:
    """Return the mode whose geometry EPT has: of walk length 5 that of 5-level paging, else of 4-level paging."""
    return PagingMode.LEVEL_5 if EPTP.get(eptp, "walk_length") == 4 else PagingMode.LEVEL_4


def _ended_at(walk: WalkRecord) -> int | None:
    """Return the number of the reference that a refused walk ended at, None if what was next could not be read."""
    unread = walk.status in (Status.OK, Status.BUS_ERROR) or walk.rule is RULES["GPA width"]
    return None if unread else len(walk.references) or None


def _likely_c_bit(walk: WalkRecord) -> int | None:
    """Return the number of a bit that entries have and that looks like AMD's C-bit, None if there is none."""
    found = (likely_c_bit(ref.entry & ref.layout.mask("addr")) for ref in walk.references)
    return next((one for one in found if one is not None), None)


def rights_letters(rights: Rights, *, user_execute: bool = False) -> str:
    """Return rights as ``RW-``; with `user_execute` a fourth letter is U, fetches from user-mode addresses."""
    letters = (*_LETTERS, (Rights.USER_EXECUTE, "U")) if user_execute else _LETTERS
    return "".join(letter if right in rights else "-" for right, letter in letters)


def _settings(state: list[int]) -> dict[str, int]:
    """Return the flags that a person may set and, of the other fields, those that are not zero."""
    found = {}
    for name, (field, width) in SETTINGS.items():
        if field not in (Context.CR3, Context.EPTP, Context.USER) and (width == 1 or state[field]):
            found[name] = state[field]
    return found


def _references(walk: WalkRecord, mbec: bool, written: dict[int, int]) -> list[dict[str, Any]]:
    """Return the references in order; the flags that the walk set are with the first reference to the entry."""
    found = []
    seen: set[int] = set()
    for number, ref in enumerate(walk.references, 1):
        record = _reference(number, ref, walk.mode, mbec)
        if ref.hpa not in seen and ref.hpa >> 3 in written:
            half = 8 * (ref.hpa & 4) if ref.layout.width == 32 else 0
            after = written[ref.hpa >> 3] >> half & (1 << ref.layout.width) - 1
            record["sets"] = ref.layout.flags(after & ~ref.entry)
        seen.add(ref.hpa)
        found.append(record)
    return found


def _reference(number: int, ref: Reference, mode: PagingMode, mbec: bool) -> dict[str, Any]:
    host = ref.dimension is Dimension.HOST
    return {
        "number": number,
        "dimension": "ept" if host else "guest",
        "level": ref.level,
        "table": ("HLAT " if ref.hlat else "") + ref.layout.title,
        "section": ref.layout.section,
        "index": ref.index,
        "gpa": None if ref.gpa is None else f"{ref.gpa:#x}",
        "hpa": f"{ref.hpa:#x}",
        "entry": f"{ref.entry:#0{2 + ref.layout.width // 4}x}",
        "bits": ref.flags(user_execute=host and mbec),
        "page": _page_size(ref, mode, mbec),
        "sets": "",
        "rights": rights_letters(ref.rights, user_execute=host and mbec),
    }


def _page_size(ref: Reference, mode: PagingMode, mbec: bool) -> int | None:
    """Return the bytes of the page that an entry maps, None of one that is not present or references a table."""
    host = ref.dimension is Dimension.HOST
    presence = ("R", "W", "X", "XU")[: 3 + mbec] if host else ("P",)
    if not any(ref.layout.get(ref.entry, name) for name in presence):
        return None
    if ref.level > 1:
        table = ept_layout(ref.level, False) if host else entry_layout(ref.level, False, mode)
        if ref.layout is table:
            return None
    return 1 << level_shift(ref.level, PagingMode.LEVEL_5 if host else mode)


def _result(walk: WalkRecord, ept: bool) -> dict[str, Any]:
    return {
        "gpa": f"{walk.gpa:#x}",
        "hpa": f"{walk.hpa:#x}",
        "guest_page": 1 << walk.guest_shift if walk.mode else None,
        "host_page": 1 << walk.host_shift if ept else None,
        "rights": rights_letters(walk.rights),
        "memory_type": walk.memory_type.name if walk.memory_type is not None else None,
        "global": walk.global_page,
        "dirty": walk.dirty,
    }


def _fault(walk: WalkRecord) -> dict[str, Any]:
    """Say what the guest or the hypervisor gets, in its name, its code and in words."""
    name, words = _fault_words(walk)
    in_gpa = walk.fault_dimension is Dimension.HOST or walk.status is Status.BUS_ERROR
    has_code = walk.status in _WITH_CODE
    return {
        "name": name,
        "code": f"{walk.error:#x}" if has_code else None,
        "code_bits": PF_ERROR.flags(walk.error) if walk.status is Status.PAGE_FAULT else None,
        "words": words,
        "gpa": f"{walk.fault_gpa:#x}" if in_gpa else None,
        "cr2": f"{walk.gva:#x}" if walk.status is Status.PAGE_FAULT else None,
        "level": walk.fault_level or None,
        "dimension": "ept" if walk.fault_dimension is Dimension.HOST else "guest",
        "table": _fault_table(walk),
    } | _too_wide(walk)


def _too_wide(walk: WalkRecord) -> dict[str, str]:
    """Return the note on an address that 4-level EPT cannot index: no entry mends that, only what the guest is told."""
    if walk.rule is not RULES["GPA width"] or walk.fault_level != PagingMode.LEVEL_4:
        return {}
    width = linear_width(PagingMode.LEVEL_4)
    note = (
        f"4-level EPT translates guest-physical bits {width - 1}:0 and no entry mends that, "
        f"so this exit comes for ever: give the guest {width} as GuestPhysBits "
        "(CPUID 80000008H EAX, bits 23:16), or EPT 5 levels"
    )
    shared = walk.fault_gpa >> width == _SHARED >> width
    return {"note": f"{note}; in a TD bit 51 is the shared bit" if shared else note}


def _fault_words(walk: WalkRecord) -> tuple[str, str]:
    status = walk.status
    if status is Status.PAGE_FAULT:
        return "#PF", describe_page_fault(walk.error)
    if status in _EXITS:
        return f"VM exit {int(_EXITS[status])}", describe_exit(_EXITS[status], walk.error)
    if status is Status.VIRTUALIZATION_EXCEPTION:
        return "#VE", describe_exit(ExitReason.EPT_VIOLATION, walk.error)
    if status is Status.NON_CANONICAL:
        why = "is not canonical" if walk.rule is RULES["non-canonical"] else "is in the wrong half"
        return f"#{Vector(walk.vector).name}(0)", f"the address {why}, no table is read"
    if status is Status.PDPTE_FAULT:
        return "#GP(0)", "MOV to CR3 loads no PDPTE register"
    return "no memory", f"there is nothing to read at {walk.fault_gpa:#x}"


def _fault_table(walk: WalkRecord) -> str | None:
    """Return the name of the entry that the walk ended at; of one that could not be read, of its level."""
    if walk.references and walk.references[-1].level == walk.fault_level:
        last = walk.references[-1]
        if last.dimension is walk.fault_dimension:
            return last.layout.title
    if not walk.fault_level:
        return None
    leaf = walk.fault_level == 1
    host = walk.fault_dimension is Dimension.HOST
    layout = ept_layout(walk.fault_level, leaf) if host else entry_layout(walk.fault_level, leaf, walk.mode)
    return layout.title
