"""A CPU profile read from TOML: widths, TLBs and walk caches, each with who published it.

The form is in docs/reference/profiles.md. Reading is strict: a key that is not known, missing or of another type is a
FormatError with file, key and what to do, so that a misspelt key does not silently give another processor. Of VMX
capabilities the file says which bits CR4 has and what is known of the rest; what is not is Quire's own.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from quire.arch.capabilities import SKYLAKE_X_VMX, VMX_CAPABILITIES, Allowed, VmxCapabilities
from quire.arch.geometry import Held, Side, TlbGeometry, WalkCacheGeometry
from quire.arch.layout import Kind
from quire.arch.profile import EPT_VPID_CAP, CpuProfile
from quire.arch.registers import CR4
from quire.arch.replacement import Replacement
from quire.documents import parse_toml
from quire.errors import FormatError, MisuseError, did_you_mean

__all__ = ["ASSUMPTION", "PAGE_SHIFTS", "UNBOUNDED", "parse_profile"]

ASSUMPTION = "assumption"  #: what a source says of a number that nobody published
UNBOUNDED = "unbounded"  #: entries of a TLB that forgets nothing
PAGE_SHIFTS = {"4K": 12, "2M": 21, "1G": 30}  #: page sizes as files and reports name them

_FULL = "full"
_MAPPINGS = ("linear", "guest-physical")
_NEEDED = ("name", "title", "vendor", "maxphyaddr", "linear_bits", "page_1g", "nx", "walkers", "source")
_OPTIONAL = ("aliases", "rtm", "ept_walk_length_5", "notes", "other_maxphyaddr", "vmx", "tlb", "walk_cache")
_VMX = ("cr4", "known", "source")
_TLB = ("name", "level", "sides", "pages", "entries", "source")
_OF_SETS = ("ways", "replacement")
_WALK_CACHE = ("name", "mappings", "holds", "entries", "ways", "replacement", "source")
_ASSUMED = "assumed"

#: Every profile has what Quire's VMX does, whatever its vendor; five levels of EPT go with 57-bit linear addresses.
_EPT_CAPS = EPT_VPID_CAP.mask(
    "execute_only",
    "walk_length_4",
    "memory_type_uc",
    "memory_type_wb",
    "page_2m",
    "page_1g",
    "invept",
    "accessed_dirty",
    "advanced_exit_info",
    "invept_single",
    "invept_all",
    "invvpid",
    "invvpid_individual",
    "invvpid_single",
    "invvpid_all",
    "invvpid_retaining_globals",
)


def parse_profile(text: str, name: str) -> CpuProfile:
    """Return the profile that the TOML `text` describes; `name` is what messages call it. Raises FormatError."""
    content = parse_toml(text, f"CPU profile {name!r}")
    try:
        return _profile(_Table(name, "", content))
    except MisuseError as error:
        raise FormatError(f"CPU profile {name!r}: {error}") from None


class _Table:
    """One table of the file: takes values out of it and says which key is wrong."""

    def __init__(self, file: str, path: str, content: dict[str, Any]) -> None:
        self._file = file
        self._path = path
        self.content = content

    def check_keys(self, needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
        known = (*needed, *optional)
        for key in self.content:
            if key not in known:
                raise self.wrong(key, f"is not known{did_you_mean(key, known)}: there is {', '.join(known)}")
        for key in needed:
            if key not in self.content:
                raise self.wrong(key, "is missing: add it")

    def string(self, key: str) -> str:
        value = self.content[key]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, f"is {value!r}: give a text in quotes")
        return value

    def integer(self, key: str) -> int:
        value = self.content[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"is {value!r}: give a whole number")
        return value

    def boolean(self, key: str) -> bool:
        value = self.content.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {value!r}: give true or false")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise self.wrong(key, f'is {value!r}: give a list of texts, ["one", "two"]')
        return tuple(value)

    def choice(self, key: str, known: Iterable[str]) -> str:
        known = [str(one) for one in known]  # members of an enumeration would show as such
        value = self.string(key)
        if value not in known:
            raise self.wrong(key, f"is {value!r}{did_you_mean(value, known)}: give one of {', '.join(known)}")
        return value

    def choices(self, key: str, known: Iterable[str]) -> tuple[str, ...]:
        known = [str(one) for one in known]
        values = self.strings(key)
        for value in values:
            if value not in known:
                said = f"has {value!r}{did_you_mean(value, known)}: it may have {', '.join(known)}"
                raise self.wrong(key, said)
        if not values or len(set(values)) != len(values):
            raise self.wrong(key, f"is {list(values)}: name one or more of {', '.join(known)}, each once")
        return values

    def integers(self, key: str) -> tuple[int, ...]:
        value = self.content.get(key, [])
        if not isinstance(value, list) or not all(type(one) is int for one in value):
            raise self.wrong(key, f"is {value!r}: give a list of whole numbers, [46, 52]")
        return tuple(value)

    def table(self, key: str) -> "_Table":
        value = self.content[key]
        if not isinstance(value, dict):
            raise self.wrong(key, f"is {value!r}: begin it with a line [{key}]")
        return _Table(self._file, f"{key}.", value)

    def tables(self, key: str) -> "list[_Table]":
        value = self.content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(key, f"is no list of tables: begin each with a line [[{key}]]")
        return [_Table(self._file, f"{key}[{number}].", one) for number, one in enumerate(value)]

    def wrong(self, key: str, what: str) -> FormatError:
        return FormatError(f"CPU profile {self._file!r}: {self._path}{key} {what}")


def _profile(table: _Table) -> CpuProfile:
    table.check_keys(_NEEDED, _OPTIONAL)
    five = EPT_VPID_CAP.mask("walk_length_5") if table.boolean("ept_walk_length_5") else 0
    vmx, unknown, vmx_source = _vmx(table)
    return CpuProfile(
        name=table.string("name"),
        title=table.string("title"),
        vendor=table.string("vendor"),
        maxphyaddr=table.integer("maxphyaddr"),
        linear_bits=table.integer("linear_bits"),
        page_1g=table.boolean("page_1g"),
        nx=table.boolean("nx"),
        rtm=table.boolean("rtm"),
        ept_caps=_EPT_CAPS | five,
        vmx=vmx,
        tlbs=tuple(_tlb(one) for one in table.tables("tlb")),
        walk_caches=tuple(_walk_cache(one) for one in table.tables("walk_cache")),
        walkers=table.integer("walkers"),
        aliases=table.strings("aliases"),
        source=table.string("source"),
        notes=table.strings("notes"),
        unknown=unknown,
        other_widths=table.integers("other_maxphyaddr"),
        vmx_source=vmx_source,
    )


def _vmx(table: _Table) -> tuple[VmxCapabilities, tuple[str, ...], str]:
    """Return what VMX offers, which of its capabilities are unknown, and who published the others."""
    if "vmx" not in table.content:
        return SKYLAKE_X_VMX, VMX_CAPABILITIES, ""
    said = table.table("vmx")
    said.check_keys(_VMX, ())
    known = said.choices("known", VMX_CAPABILITIES)
    bits = said.choices("cr4", [one.name for one in CR4.fields if one.kind is Kind.FIELD])
    cr4 = Allowed(SKYLAKE_X_VMX.cr4.allowed0, CR4.mask(*bits))
    unknown = tuple(one for one in VMX_CAPABILITIES if one not in known)
    return replace(SKYLAKE_X_VMX, cr4=cr4), unknown, said.string("source")


def _tlb(table: _Table) -> TlbGeometry:
    unbounded = table.content.get("entries") == UNBOUNDED
    for key in _OF_SETS:
        if unbounded and key in table.content:
            raise table.wrong(key, f"means nothing where entries are {UNBOUNDED!r}: leave it out")
    table.check_keys((*_TLB, *(() if unbounded else _OF_SETS)), (_ASSUMED,))
    entries = None if unbounded else _number(table, "entries", UNBOUNDED)
    name, level = table.string("name"), table.integer("level")
    sides = tuple(Side(one) for one in table.choices("sides", Side))
    shifts = tuple(PAGE_SHIFTS[one] for one in table.choices("pages", PAGE_SHIFTS))
    source, assumed = _provenance(table)
    if entries is None:
        return TlbGeometry(name, level, sides, shifts, None, source=source, assumed=assumed)
    return TlbGeometry(
        name, level, sides, shifts, entries, _ways(table, entries), _replacement(table), source, assumed
    )


def _walk_cache(table: _Table) -> WalkCacheGeometry:
    table.check_keys(_WALK_CACHE, (_ASSUMED,))
    guest_physical = table.choice("mappings", _MAPPINGS) == _MAPPINGS[1]
    holds = tuple(Held(one) for one in table.choices("holds", Held))
    entries = table.integer("entries")
    source, assumed = _provenance(table)
    return WalkCacheGeometry(
        table.string("name"), guest_physical, holds, entries, _ways(table, entries), _replacement(table),
        source, assumed,
    )  # fmt: skip


def _ways(table: _Table, entries: int) -> int:
    return entries if table.content["ways"] == _FULL else _number(table, "ways", _FULL)


def _number(table: _Table, key: str, word: str) -> int:
    """Return the whole number at `key`, where there might have been `word`."""
    value = table.content[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise table.wrong(key, f"is {value!r}: give a whole number or {word!r}")
    return value


def _replacement(table: _Table) -> Replacement:
    return Replacement(table.choice("replacement", Replacement))


def _provenance(table: _Table) -> tuple[str, tuple[str, ...]]:
    """Return the source and the keys that are assumed: each of the two must say when there are any."""
    source = table.string("source")
    numbers = [key for key in table.content if key not in ("name", "source", _ASSUMED)]
    assumed = table.choices(_ASSUMED, numbers) if _ASSUMED in table.content else ()
    if assumed and ASSUMPTION not in source:
        raise table.wrong("source", f"is silent on what is assumed: add {ASSUMPTION!r} and what it rests on")
    if ASSUMPTION in source and not assumed:
        raise table.wrong(
            _ASSUMED, f"is missing, and the source has an {ASSUMPTION}: list the keys that it is of"
        )
    return source, assumed
