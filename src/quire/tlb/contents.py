"""What TLBs and walk caches hold, as arrays: a row an entry, and for each structure two numbers a set.

Copies: what the TLB does afterwards changes nothing here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quire.arch import PAT_RESET, MemoryType, TlbGeometry, combined_memory_type, pat_memory_type
from quire.errors import MisuseError
from quire.paging import Context
from quire.tlb.invalidation import MappingClass
from quire.tlb.layout import KIND_SHIFTS, TAG, TRANSLATION, Kind, Shape, Shapes
from quire.tlb.spaces import AddressSpaces
from quire.tlb.structure import Structure

if TYPE_CHECKING:
    import pandas

__all__ = ["SetUse", "TlbTable", "make_table", "set_use", "valid_indices"]

Words = npt.NDArray[np.uint64]
Structures = tuple[Structure, ...]

#: Fields that are -1 where an entry has no such thing: None in records.
_ABSENT = ("set", "way", "vpid", "pcid", "ep4ta", "hpa", "pkey")
#: Fields of translations; a walk cache keeps none of them: None in records.
_OF_PAGES = (
    "RW",
    "US",
    "XD",
    "ept_R",
    "ept_W",
    "ept_X",
    "ept_XU",
    "dirty",
    "memory_type",
    "pkey",
    "walk_size",
)
_SIGN_BIT, _HIGH_BITS = np.uint64(1 << 56), np.uint64((1 << 64) - (1 << 57))
_NAMES_OF_KINDS = np.array(["page"] * 4 + [kind.name for kind in Kind if not kind.is_page])


@dataclass(frozen=True, slots=True)
class SetUse:
    """Of one structure, by set: how many ways are `used` now, and how many entries each set took in (`fills`)."""

    ways: int
    used: npt.NDArray[np.int64]
    fills: npt.NDArray[np.int64]


class TlbTable:
    """Entries as a structured array, :attr:`array`; docs/reference/tlb.md says what its fields are.

    `structures` are the names of those that there are, whether or not they hold anything.
    """

    def __init__(self, array: npt.NDArray[Any], structures: tuple[str, ...]) -> None:
        self.array = array
        self.structures = structures

    def __len__(self) -> int:
        return len(self.array)

    def where(
        self,
        *,
        vpid: int | None = None,
        pcid: int | None = None,
        ep4ta: int | None = None,
        structure: str | None = None,
        mapping_class: MappingClass | str | None = None,
        size: int | None = None,
        global_: bool | None = None,
    ) -> "TlbTable":
        """Return the entries that have all that is given; a tag of -1 is one that an entry does not have.

        `size` is in bytes. Raises MisuseError if there is no such structure or class.
        """
        if structure is not None and structure not in self.structures:
            names = ", ".join(self.structures) or "none at all"
            raise MisuseError(f"No TLB or walk cache is called {structure!r}: there is {names}")
        if mapping_class is not None and mapping_class not in set(MappingClass):
            raise MisuseError(
                f"There is no class of mappings {mapping_class!r}: give {', '.join(MappingClass)}"
            )
        kept = np.ones(len(self.array), bool)
        for field, value in (
            ("vpid", vpid),
            ("pcid", pcid),
            ("ep4ta", ep4ta),
            ("structure", structure),
            ("class", mapping_class),
            ("size", size),
            ("global", global_),
        ):
            if value is not None:
                kept &= self.array[field] == value
        return TlbTable(self.array[kept], self.structures)

    def sorted(self, key: str) -> "TlbTable":
        """Return the entries in ascending order of field `key`; equal ones stay as they are."""
        return TlbTable(self.array[np.argsort(self.array[key], kind="stable")], self.structures)

    def first(self, count: int | None) -> "TlbTable":
        """Return the first `count` entries; None: all."""
        return TlbTable(self.array[:count], self.structures)

    def to_records(self) -> list[dict[str, Any]]:
        """Return a plain dict an entry, for JSON: None for what an entry does not have."""
        names = self.array.dtype.names or ()
        records = [dict(zip(names, row, strict=True)) for row in self.array.tolist()]
        for record in records:
            absent = [name for name in _ABSENT if record[name] == -1]
            record |= dict.fromkeys((*absent, *(() if record["level"] else _OF_PAGES)))
        return records

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a data frame with the same columns. Raises MisuseError if pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise MisuseError(
                "A table as a data frame needs pandas, which is not installed: "
                "pip install pandas, or use .array or .to_records()"
            ) from None
        return pandas.DataFrame({name: self.array[name] for name in self.array.dtype.names or ()})


def valid_indices(entries: Words, capacity: int) -> npt.NDArray[np.int64]:
    """Return where the valid ones of the first `capacity` entries are: structure by structure, set by set."""
    return np.flatnonzero(entries[:capacity] >> np.uint64(TAG.shift("space")))


def make_table(
    structures: Structures, entries: Words, spaces: AddressSpaces, clock: int, context: Words | None
) -> TlbTable:
    """Return every valid entry, in the order of :func:`valid_indices`.

    `spaces` are what tags stand for, `clock` is the time now, `context` as that of :class:`quire.tlb.Tlb`.
    """
    capacity = _capacity(structures)
    at = valid_indices(entries, capacity)
    tags, values, stamps = entries[at], entries[2 * capacity + at], entries[capacity + at]
    names = tuple(one.name for one in structures)
    array = np.zeros(len(at), _dtype(max(map(len, names), default=1)))
    _place(structures, at, array)
    kinds = _part(TAG, tags, "kind")
    shifts = np.array(KIND_SHIFTS)[kinds]
    array["kind"] = _NAMES_OF_KINDS[kinds]
    array["size"] = np.int64(1) << shifts
    address = (tags & np.uint64(TAG.mask("page"))) << shifts.astype(np.uint64)
    array["address"] = np.where(address & _SIGN_BIT, address | _HIGH_BITS, address)
    array["hpa"] = _part(TRANSLATION, values, "frame") << 12
    _tag(spaces, _part(TAG, tags, "space"), array)
    array["age"] = (np.uint64(clock) - stamps).astype(np.int64)
    _translate(context, values, array)
    return TlbTable(array, names)


def _capacity(structures: Structures) -> int:
    """Return the number of entries of all structures, which lie one behind the other."""
    return structures[-1].end if structures else 0


def _dtype(longest_name: int) -> np.dtype[Any]:
    """Return the type of a row; strings are as long as the longest that there is."""
    rights = [(name, "?") for name in ("RW", "US", "XD", "ept_R", "ept_W", "ept_X", "ept_XU", "dirty")]
    return np.dtype(
        [
            ("structure", f"U{longest_name}"),
            ("level", "i1"),
            ("set", "i4"),
            ("way", "i4"),
            ("class", "U14"),
            ("kind", "U5"),
            ("address", "u8"),
            ("size", "i8"),
            ("hpa", "i8"),
            ("vpid", "i4"),
            ("pcid", "i4"),
            ("ep4ta", "i8"),
            ("global", "?"),
            *rights,
            ("memory_type", "U3"),
            ("pkey", "i1"),
            ("walk_size", "i8"),
            ("age", "i8"),
        ]
    )


def _part(layout: Any, words: Words, field: str) -> npt.NDArray[np.int64]:
    """Return a field of each word."""
    found: npt.NDArray[np.int64] = (
        (words & np.uint64(layout.mask(field))) >> np.uint64(layout.shift(field))
    ).astype(np.int64)
    return found


def _place(structures: Structures, at: npt.NDArray[np.int64], array: npt.NDArray[Any]) -> None:
    """Write in which structure, set and way each entry lies."""
    starts = np.array([one.start for one in structures], np.int64)
    number = np.searchsorted(starts, at, side="right") - 1
    array["structure"] = np.array([one.name for one in structures], array.dtype["structure"])[number]
    levels = [one.geometry.level if isinstance(one.geometry, TlbGeometry) else 0 for one in structures]
    array["level"] = np.array(levels, np.int8)[number]
    ways = np.array([one.ways for one in structures], np.int64)[number]
    bounded = np.array([one.bounded for one in structures], bool)[number]
    array["set"], array["way"] = (np.where(bounded, found, -1) for found in divmod(at - starts[number], ways))


def _tag(known: AddressSpaces, numbers: npt.NDArray[np.int64], array: npt.NDArray[Any]) -> None:
    """Write the tags that the numbers of address spaces stand for, and what follows from them."""
    distinct, inverse = np.unique(numbers, return_inverse=True)
    spaces = [known.space(int(number)) for number in distinct]
    for field in ("vpid", "pcid", "ep4ta"):
        tags = [getattr(space, field) for space in spaces]
        array[field] = np.array([-1 if tag is None else tag for tag in tags], np.int64)[inverse]
    array["class"] = np.array([str(space.mapping_class) for space in spaces], "U14")[inverse]
    array["global"] = (array["pcid"] == -1) & (array["vpid"] != -1)


def _translate(context: Words | None, values: Words, array: npt.NDArray[Any]) -> None:
    """Write what translations say of their pages; of entries of walk caches, that there is nothing to say."""
    for field in ("RW", "US", "XD", "dirty"):
        array[field] = _part(TRANSLATION, values, field)
    rights = _part(TRANSLATION, values, "ept_rights")
    for bit, field in enumerate(("ept_R", "ept_W", "ept_X", "ept_XU")):
        array[field] = rights >> bit & 1
    if context is None or not context[Context.MBEC]:
        array["ept_XU"] |= array["ept_X"]  # one right for both without mode-based execute control
    array["pkey"] = _part(TRANSLATION, values, "pkey")
    array["walk_size"] = np.int64(1) << np.array(KIND_SHIFTS)[_part(TRANSLATION, values, "walk_size")]
    array["memory_type"] = _memory_types(context, values, array["ep4ta"] != -1)
    cached = array["level"] == 0
    for field in _OF_PAGES:
        array[field][cached] = {"memory_type": "", "pkey": -1}.get(field, 0)
    array["hpa"][cached & (values == 0)] = -1  # that of an entry of EPT is not kept


def _memory_types(
    context: Words | None, values: Words, under_ept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.str_]:
    """Return the name of the memory type of each translation, with IA32_PAT and CR0.CD as they are now."""
    keys = _part(TRANSLATION, values, "pat") | _part(TRANSLATION, values, "ept_type") << 3
    keys |= _part(TRANSLATION, values, "IPAT") << 6 | under_ept.astype(np.int64) << 7
    distinct, inverse = np.unique(keys, return_inverse=True)
    name = _namer(context)
    return np.array([name(int(key)) for key in distinct], "U3")[inverse]


def _namer(context: Words | None) -> Callable[[int], str]:
    pat, uncached = PAT_RESET, False
    if context is not None:
        pat, uncached = int(context[Context.PAT]), bool(context[Context.CD])

    def name(key: int) -> str:
        found, ept = pat_memory_type(pat, key & 7), key >> 3 & 7
        if uncached:
            found = MemoryType.UC
        elif key >> 7:
            if ept not in set(MemoryType) - {MemoryType.UC_MINUS}:
                return "?"  # entered by hand: no EPT entry has it
            found = combined_memory_type(MemoryType(ept), bool(key >> 6 & 1), found)
        return "UC-" if found is MemoryType.UC_MINUS else found.name

    return name


def set_use(structures: Structures, entries: Words, shapes: npt.NDArray[np.int64]) -> dict[str, SetUse]:
    """Return the use of the sets of each structure that has any: not of a table without bound."""
    found = {}
    capacity = _capacity(structures)
    for number, one in enumerate(structures):
        if one.bounded:
            mine = entries[one.start : one.end] != 0
            words = int(shapes[Shapes.ROWS + number * len(Shape) + Shape.SET_WORDS])
            counts = 3 * capacity + words + one.sets
            fills = entries[counts : counts + one.sets].astype(np.int64)
            found[one.name] = SetUse(one.ways, mine.reshape(one.sets, one.ways).sum(axis=1), fills)
    return found
