"""Which entries are to blame for a refused access: the level that lacks the right, the bits that are reserved.

The rule that decided a walk says what was wanted of every entry; this says which ones did not have it.
"""

from typing import Any

from quire.arch import EPTP, Layout
from quire.paging.context import Context, Dimension, Rights, Status
from quire.paging.reference_rights import WANTED
from quire.paging.walk_record import Reference, WalkRecord

__all__ = ["culprits"]

#: Of a rule about guest entries: the bit, and the value of it that an entry is blamed for.
_BLAMED = {
    "user page": ("US", 0),
    "read-only page": ("RW", 0),
    "write protect": ("RW", 0),
    "execute disable": ("XD", 1),
    "SMAP": ("US", 1),
    "SMEP": ("US", 1),
}
_OF_EVERY_ENTRY = ("SMAP", "SMEP")  # an entry alone cannot be blamed: any one with U/S = 0 would have helped
_OF_SHADOW_LEAF = (("RW", 1, "RW = 1"), ("D", 0, "D = 0"))
_RESERVED = ("reserved bit", "EPT reserved bit", "PDPTE reserved bit")


def culprits(walk: WalkRecord, state: list[int]) -> list[dict[str, Any]]:
    """Return the entries to blame: number of the reference, table, level, and the bit with its value in words."""
    if walk.status is Status.OK or not walk.references:
        return []
    if walk.rule.name in _RESERVED:
        last = walk.references[-1]
        return [_blame(walk, last, f"{_numbers(_stray(last, state))} {_why(last, state)}")]
    if walk.rule.name in _BLAMED:
        bit, value = _BLAMED[walk.rule.name]
        blamed = [one for one in _guest_entries(walk) if _has(one, bit, value)]
        if walk.rule.name in _OF_EVERY_ENTRY:
            blamed = blamed[-1:]
        also = ", as in every entry above," if walk.rule.name in _OF_EVERY_ENTRY else ""
        return [_blame(walk, one, f"{bit} = {value}{also}") for one in blamed]
    if walk.rule.name == "protection key":
        return [_blame(walk, walk.references[-1], _key(walk, state))]
    if walk.rule.name == "shadow stack":
        return _shadow_stack(walk, state)
    if walk.rule.name in ("EPT rights", "EPT table write"):
        return _ept_rights(walk, state)
    return []


def _blame(walk: WalkRecord, ref: Reference, words: str) -> dict[str, Any]:
    number = next(n for n, one in enumerate(walk.references, 1) if one is ref)
    return {"number": number, "table": ref.layout.title, "level": ref.level, "words": words}


def _has(ref: Reference, bit: str, value: int) -> bool:
    """Return whether an entry has `bit` with `value`; one of a mode without XD has none."""
    names = {one.name for one in ref.layout.fields}
    return bit in names and ref.layout.get(ref.entry, bit) == value


def _guest_entries(walk: WalkRecord) -> list[Reference]:
    return [one for one in walk.references if one.dimension is Dimension.GUEST]


def _key(walk: WalkRecord, state: list[int]) -> str:
    """Say which key the leaf has, and which bit of the register of keys forbids the access (SDM 3A §4.6.2)."""
    used = _guest_entries(walk)
    key = used[-1].layout.get(used[-1].entry, "pkey")
    user = all(_has(one, "US", 1) for one in used)
    register, rights = ("PKRU", Context.PKRU) if user else ("IA32_PKRS", Context.PKRS)
    bit = 2 * key
    name = "AD" if state[rights] >> bit & 1 else "WD"
    return f"pkey = {key}, of which {register} has {name}{key} (bit {bit + (name == 'WD')}) = 1,"


def _shadow_stack(walk: WalkRecord, state: list[int]) -> list[dict[str, Any]]:
    """Blame what makes a page no shadow stack of this access: one has R/W = 0 and D = 1 in its leaf, and fit U/S."""
    *above, leaf = _guest_entries(walk)
    user = state[Context.USER] and not state[Context.IMPLICIT]
    blamed = [(one, "RW = 0") for one in above if _has(one, "RW", 0)]
    blamed += [(leaf, words) for bit, wrong, words in _OF_SHADOW_LEAF if _has(leaf, bit, wrong)]
    if user:
        blamed += [(one, "US = 0") for one in (*above, leaf) if _has(one, "US", 0)]
    elif all(_has(one, "US", 1) for one in (*above, leaf)):
        blamed.append((leaf, "US = 1, as in every entry above,"))
    return [_blame(walk, one, words) for one, words in blamed]


def _ept_rights(walk: WalkRecord, state: list[int]) -> list[dict[str, Any]]:
    """Blame the entries of the last walk of EPT that do not allow what was wanted of it."""
    end = len(walk.references)
    while walk.references[end - 1].dimension is Dimension.GUEST:
        end -= 1
    start = end
    while start and walk.references[start - 1].dimension is Dimension.HOST:
        start -= 1
    return [
        _blame(walk, one, f"{name} = 0")
        for one in walk.references[start:end]
        for name in _wanted_of_ept(walk, state)
        if not one.layout.get(one.entry, name)
    ]


def _wanted_of_ept(walk: WalkRecord, state: list[int]) -> list[str]:
    """Return the bits that the access needs in EPT entries; a guest's table is written too where EPT has A and D."""
    if walk.rule.name == "EPT table write":
        return ["W"]
    if walk.fault_gpa != (walk.gpa if _guest_entries(walk) else walk.gva):
        return ["R", "W"] if EPTP.get(state[Context.EPTP], "AD") else ["R"]
    if WANTED[walk.access] is Rights.EXECUTE:
        user = all(_has(one, "US", 1) for one in _guest_entries(walk))
        return ["XU" if state[Context.MBEC] and user else "X"]
    return ["W"] if WANTED[walk.access] is Rights.WRITE else ["R"]


def _stray(ref: Reference, state: list[int]) -> int:
    """Return the bits of an entry that must be 0 here."""
    layout, forbidden = ref.layout, ref.layout.reserved_mask
    if layout.width == 64:
        forbidden |= state[Context.RESERVED]
    if ref.dimension is Dimension.GUEST and not state[Context.NXE] and _declares(layout, "XD"):
        forbidden |= layout.mask("XD")
    if layout.name == "PDE_4M":
        forbidden |= state[Context.PSE_RESERVED]
    missing = {"PDPTE_1G": Context.PAGE_1G, "EPT_PDE_2M": Context.EPT_2M, "EPT_PDPTE_1G": Context.EPT_1G}
    if layout.name in missing and not state[missing[layout.name]]:
        forbidden |= layout.mask("PS")
    return ref.entry & forbidden


def _declares(layout: Layout, name: str) -> bool:
    return any(one.name == name for one in layout.fields)


def _why(ref: Reference, state: list[int]) -> str:
    """Say what makes the bits reserved, as far as it is the processor's or the mode's doing."""
    stray = _stray(ref, state)
    if stray & state[Context.RESERVED] and ref.layout.width == 64:
        width = 52 - state[Context.RESERVED].bit_count()
        return f"beyond MAXPHYADDR, {width}"
    if _declares(ref.layout, "XD") and stray & ref.layout.mask("XD"):
        return "reserved while EFER.NXE = 0"
    if _declares(ref.layout, "PS") and stray & ref.layout.mask("PS"):
        return "reserved: the processor has no page of that size"
    return "reserved"


def _numbers(bits: int) -> str:
    found = [n for n in range(bits.bit_length()) if bits >> n & 1]
    return f"bit{'s' * (len(found) > 1)} {', '.join(map(str, found))}"
