"""A page fault that somebody saw, walked again from the entries that are known of it.

The answer is the walk, whether it ends as the processor said, and on what the verdict turns: a reserved bit may lie
beyond the width of physical addresses, which a dump does not say.
"""

from dataclasses import dataclass, field
from typing import Any

from quire.arch import (
    AMD_PF_ERROR,
    PAGE_SIZE,
    Access,
    PagingMode,
    describe_amd_page_fault,
    physical_reserved,
)
from quire.arch.faults import PF_ERROR, describe_page_fault
from quire.dumps.dump import Answer, Surroundings
from quire.dumps.entry_memory import EntryMemory, free_page
from quire.errors import MisuseError
from quire.paging import Context, Status, new_context
from quire.paging.explanation import explain
from quire.paging.lint import Severity
from quire.paging.remains import what_remains
from quire.paging.settings import SETTINGS

__all__ = ["FaultWalk", "explain_fault"]

_EVERYWHERE = 1 << 52  # pages may lie anywhere
_WIDTHS = range(36, 53)  # of physical addresses, of processors that were built
#: What to look at, by the rule that the access broke.
_FIXES = {
    "not present": "nothing is mapped there: look at who should have mapped the address, or unmapped it too early",
    "write protect": "the page is read-only on purpose, or its entry was not changed back: look at what the address is",
    "read-only page": "the page is read-only: look at who mapped it so, and at what writes to it",
    "user page": "a program touched memory of the kernel: look at the address that it used",
    "SMAP": "the kernel touched memory of a program outside of copy_from_user and its family",
    "SMEP": "the kernel jumped into memory of a program: look at the function pointer",
    "execute disable": "what was executed is data: look at the pointer, or at who set XD",
    "protection key": "PKRU forbids the page's key: look at who set it",
}


@dataclass(frozen=True, slots=True)
class FaultWalk:
    """What is known of a page fault; None is what is not. `entries` are from the highest level down."""

    address: int | None
    code: int | None
    access: Access
    cr3: int | None
    entries: list[int]
    mode: PagingMode = PagingMode.LEVEL_4
    settings: dict[str, int] = field(default_factory=dict)


def explain_fault(answer: Answer, fault: FaultWalk, around: Surroundings) -> None:
    """Add to `answer` what the error code says, the walk, and how the two agree."""
    if fault.code is not None:
        if AMD_PF_ERROR.get(fault.code, "RMP"):
            answer.words.append(
                f"the processor said error code {fault.code:#x}: {describe_amd_page_fault(fault.code)}; the entries "
                "are not walked, since they may have the C-bit of AMD's memory encryption, and what refused the "
                "access is not in them"
            )
            return
        stray = fault.code & PF_ERROR.reserved_mask
        if stray:
            answer.words.append(
                f"error code {fault.code:#x} has bits {stray:#x}, which no page fault delivers"
            )
        else:
            answer.words.append(
                f"the processor said error code {fault.code:#x}: {describe_page_fault(fault.code)}"
            )
    if fault.address is None or not fault.entries:
        missing = "address" if fault.address is None else "entries of the walk"
        answer.words.append(f"the walk cannot be made again: the dump does not have the {missing}")
        return
    try:
        walk = _walk(fault, around, around.width)
    except MisuseError as error:
        answer.words.append(f"the walk cannot be made again: {error}")
        return
    count = len(fault.entries)
    title = f"{count} entr{'y' if count == 1 else 'ies'} of the dump" + (
        "" if fault.cr3 is not None else ", CR3 is not in it"
    )
    record = {"source": title, "profile": around.profile.name, "walk": walk}
    answer.walks.append(record)
    _judge(answer, fault, record, around)


def _walk(fault: FaultWalk, around: Surroundings, width: int) -> dict[str, Any]:
    assert fault.address is not None
    root = free_page(fault.entries) if fault.cr3 is None else fault.cr3 & ~(1 << 63)
    memory = EntryMemory()
    memory.put(root, fault.address, fault.entries, fault.mode)
    context = new_context(around.profile, _EVERYWHERE)
    context[Context.CR3] = root
    context[Context.MODE] = fault.mode
    context[Context.RESERVED] = physical_reserved(width)
    context[Context.USER] = PF_ERROR.get(fault.code or 0, "U")
    for name, value in fault.settings.items():
        context[SETTINGS[name][0]] = value
    return explain(memory, context, fault.address, fault.access)


def _code_of(walk: dict[str, Any]) -> int | None:
    """Return the error code that a walk ends with; None if it does not end in a page fault."""
    fault = walk["fault"]
    return int(fault["code"], 16) if fault is not None and fault["cr2"] is not None else None


def _judge(answer: Answer, fault: FaultWalk, record: dict[str, Any], around: Surroundings) -> None:
    walk = record["walk"]
    code, rule = _code_of(walk), walk["rule"]
    if walk["status"] == Status.BUS_ERROR.name:
        walk["fault"]["note"] = "the entry that comes next is not in the dump: what follows is not known"
        return
    if code is not None and code == fault.code:
        answer.find(
            Severity.ERROR,
            rule["name"],
            rule["section"],
            f"the walk of these entries ends as the processor said, at the {walk['fault']['table']}: {rule['text']}",
            _fix(rule["name"], fault.address or 0),
        )
        return
    fitting = (
        []
        if fault.code is None
        else [width for width in _WIDTHS if _code_of(_walk(fault, around, width)) == fault.code]
    )
    if fitting:
        answer.find(
            Severity.ERROR,
            "address width",
            "SDM 3A §4.1.4",
            f"the verdict turns on MAXPHYADDR: with {_range(fitting)} bits these entries give error code "
            f"{fault.code:#x}, with {around.width} they do not",
            "compare the width that the guest's CPUID leaf 0x80000008 reports with that of the machine; on AMD the bit "
            "may be the C-bit of memory encryption, which is no address bit",
        )
    elif fault.code is not None:
        known = fault.cr3 is not None
        stray = fault.code & PF_ERROR.reserved_mask
        record["remains"] = [] if stray else what_remains(walk, fault.code, root_known=known)
        answer.find(
            Severity.WARNING,
            "entries and error code",
            "SDM 3A §4.7",
            f"the processor said {fault.code:#x}, and these entries now "
            + ("allow the access" if code is None else f"give {code:#x}"),
            "look at what remains, below",
        )


def _fix(rule: str, address: int) -> str:
    if rule == "not present" and address < PAGE_SIZE:
        return "a pointer was null, or nearly: look at the register that held it"
    return _FIXES.get(rule, "look at who wrote that entry")


def _range(widths: list[int]) -> str:
    return f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
