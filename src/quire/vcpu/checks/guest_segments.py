"""Checks of the guest's segment registers and descriptor-table registers (SDM 3C §26.3.1.2 and §26.3.1.3)."""

from quire.arch import SELECTOR, is_canonical
from quire.vcpu.checks.rule import GUEST_STATE, Check, EntryRule, EntryView

__all__ = ["RULES"]

_SECTION = "SDM 3C §26.3.1.2"
_TABLES = "SDM 3C §26.3.1.3"
_DATA = ("ss", "ds", "es", "fs", "gs")
_CODE_AND_DATA = ("cs", *_DATA)
_ALL = (*_CODE_AND_DATA, "tr", "ldtr")
_VIRTUAL_8086_RIGHTS = 0xF3
_ACCESSED_CODE = (9, 11, 13, 15)
_CONFORMING_CODE = (13, 15)
_DATA_READ_WRITE = 3  # the type of CS in an unrestricted guest in real mode, and of most SS
_BUSY_TSS_16, _BUSY_TSS, _LDT = 3, 11, 2


def _rule(segment: str, name: str, part: str, wants: str, holds: Check, section: str = _SECTION) -> EntryRule:
    field = f"guest_{segment}_{part}"
    return EntryRule(f"{segment.upper()} {name}", section, field, wants, GUEST_STATE, holds)


def _rights(segment: str, name: str, wants: str, holds: Check) -> EntryRule:
    """Return a rule of access rights: not in virtual-8086 mode, which has its own, and of a usable segment."""
    always = segment in ("cs", "tr")
    in_every_mode = segment in ("tr", "ldtr")

    def bound(view: EntryView) -> bool:
        skipped = (view.virtual_8086 and not in_every_mode) or not (always or view.usable(segment))
        return skipped or holds(view)

    return _rule(segment, name, "access_rights", wants, bound)


def _selector(view: EntryView, segment: str, part: str) -> int:
    return SELECTOR.get(view.read(f"guest_{segment}_selector"), part)


def _unrestricted(view: EntryView) -> bool:
    return bool(view.secondary("unrestricted_guest"))


def _canonical(segment: str, *, usable: bool = False, section: str = _SECTION) -> EntryRule:
    field = f"guest_{segment}_base"
    return _rule(
        segment,
        "base",
        "base",
        "canonical",
        lambda view: (
            (usable and not view.usable(segment)) or is_canonical(view.read(field), view.profile.linear_bits)
        ),
        section,
    )


def _half(segment: str) -> EntryRule:
    field = f"guest_{segment}_base"
    return _rule(
        segment,
        "base",
        "base",
        "below 1 << 32",
        lambda view: (segment != "cs" and not view.usable(segment)) or not view.read(field) >> 32,
    )


def _virtual_8086(segment: str) -> tuple[EntryRule, ...]:
    """Return what virtual-8086 mode fixes: base, limit and access rights."""

    def base(view: EntryView) -> bool:
        return view.read(f"guest_{segment}_base") == view.read(f"guest_{segment}_selector") << 4

    def limit(view: EntryView) -> bool:
        return view.read(f"guest_{segment}_limit") == 0xFFFF

    def rights(view: EntryView) -> bool:
        return view.read(f"guest_{segment}_access_rights") == _VIRTUAL_8086_RIGHTS

    wants = {"base": "selector << 4", "limit": "0xffff", "access_rights": "0xf3"}
    return tuple(
        _rule(
            segment,
            f"{part.replace('_', ' ')} in virtual-8086 mode",
            part,
            wants[part],
            lambda view, holds=holds: not view.virtual_8086 or holds(view),  # type: ignore[misc]
        )
        for part, holds in (("base", base), ("limit", limit), ("access_rights", rights))
    )


def _code_type(view: EntryView) -> bool:
    kind = view.rights("cs", "type")
    return kind in _ACCESSED_CODE or (_unrestricted(view) and kind == _DATA_READ_WRITE)


def _code_level(view: EntryView) -> bool:
    kind, level, stack = view.rights("cs", "type"), view.rights("cs", "DPL"), view.rights("ss", "DPL")
    if kind == _DATA_READ_WRITE:
        return level == 0
    return level <= stack if kind in _CONFORMING_CODE else level == stack


def _stack_level(view: EntryView) -> bool:
    """SS.DPL is the CPL, so it is checked even if SS is unusable."""
    if view.virtual_8086:
        return True
    level = view.rights("ss", "DPL")
    if level and (view.rights("cs", "type") == _DATA_READ_WRITE or not view.cr0("PE")):
        return False
    return _unrestricted(view) or level == _selector(view, "ss", "RPL")


def _stack_selector(view: EntryView) -> bool:
    if view.virtual_8086 or _unrestricted(view):
        return True
    return _selector(view, "ss", "RPL") == _selector(view, "cs", "RPL")


def _data_type(view: EntryView, segment: str) -> bool:
    kind = view.rights(segment, "type")
    return bool(kind & 1) and (not kind & 8 or bool(kind & 2))


def _data_level(view: EntryView, segment: str) -> bool:
    if _unrestricted(view) or view.rights(segment, "type") > 11:
        return True
    return view.rights(segment, "DPL") >= _selector(view, segment, "RPL")


def _granular(view: EntryView, segment: str) -> bool:
    limit, units = view.read(f"guest_{segment}_limit"), view.rights(segment, "G")
    return not (units and limit & 0xFFF != 0xFFF) and not (not units and limit >> 20)


def _reserved(view: EntryView, segment: str) -> bool:
    return not view.read(f"guest_{segment}_access_rights") & 0xFFFE_0F00


def _common(segment: str) -> tuple[EntryRule, ...]:
    """Return the rules of access rights that every segment has."""
    code_or_data = segment in _CODE_AND_DATA
    return (
        _rights(
            segment,
            "S bit",
            f"with S {'set' if code_or_data else 'clear'}",
            lambda view: view.rights(segment, "S") == code_or_data,
        ),
        _rights(segment, "present", "with P set", lambda view: bool(view.rights(segment, "P"))),
        _rights(segment, "reserved bits", "0 in bits 11:8 and 31:17", lambda view: _reserved(view, segment)),
        _rights(
            segment,
            "granularity",
            "with G as the limit: clear unless bits 11:0 of it are ones, set if bits 31:20 are not 0",
            lambda view: _granular(view, segment),
        ),
    )


def _task_type(view: EntryView) -> bool:
    kind = view.rights("tr", "type")
    return kind == _BUSY_TSS or (kind == _BUSY_TSS_16 and not view.entry("ia32e_guest"))


def _data(segment: str) -> tuple[EntryRule, ...]:
    return (
        _rights(
            segment,
            "type",
            "accessed, and readable if it is code",
            lambda view: _data_type(view, segment),
        ),
        _rights(
            segment,
            "privilege",
            "with DPL not less than RPL of the selector, unless conforming",
            lambda view: _data_level(view, segment),
        ),
    )


def _table(name: str) -> tuple[EntryRule, EntryRule]:
    return (
        _canonical(name, section=_TABLES),
        _rule(
            name,
            "limit",
            "limit",
            "below 0x10000",
            lambda view: view.read(f"guest_{name}_limit") <= 0xFFFF,
            _TABLES,
        ),
    )


RULES: tuple[EntryRule, ...] = (
    _rule("tr", "selector", "selector", "of the GDT", lambda view: not _selector(view, "tr", "TI")),
    _rule(
        "ldtr",
        "selector",
        "selector",
        "of the GDT",
        lambda view: not view.usable("ldtr") or not _selector(view, "ldtr", "TI"),
    ),
    _rule("ss", "selector", "selector", "of the RPL of CS", _stack_selector),
    *(rule for segment in _CODE_AND_DATA for rule in _virtual_8086(segment)),
    *(_canonical(segment) for segment in ("tr", "fs", "gs")),
    _canonical("ldtr", usable=True),
    *(_half(segment) for segment in ("cs", "ss", "ds", "es")),
    _rights("cs", "type", "accessed code; in an unrestricted guest also 3", _code_type),
    _rights("ss", "type", "3 or 7", lambda view: view.rights("ss", "type") in (3, 7)),
    *(rule for segment in ("ds", "es", "fs", "gs") for rule in _data(segment)),
    _rights("cs", "privilege", "with DPL that of SS, not above it if conforming, 0 if data", _code_level),
    _rule(
        "ss", "privilege", "access_rights", "with DPL the RPL of the selector, 0 in real mode", _stack_level
    ),
    _rights(
        "cs",
        "default size",
        "without D in 64-bit code",
        lambda view: not view.code_64 or not view.rights("cs", "DB"),
    ),
    _rights("tr", "type", "a busy TSS: 11; outside IA-32e mode also 3", _task_type),
    _rights("tr", "unusable", "usable", lambda view: view.usable("tr")),
    _rights("ldtr", "type", "2", lambda view: view.rights("ldtr", "type") == _LDT),
    *(rule for segment in _ALL for rule in _common(segment)),
    *_table("gdtr"),
    *_table("idtr"),
)
