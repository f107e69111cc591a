"""One hierarchy of paging tables, guest's or EPT: map, unmap, protect, split, join, look up.

Tables live in the frames of a :class:`TableMemory` as the exact 8-byte entries that a walk reads. Beside them are
kept only how many present entries each table has, and where the page table of each 2 MiB is. Upper entries restrict
nothing, leaves carry the rights. Invalidating TLBs after a change is the caller's: the tables do not know who cached
them. A frame that a table needs and cannot get raises OutOfFrames; the hierarchy is as it was, but for empty tables.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quire import failpoints
from quire.arch import PTE, WORD, MemoryType, level_shift, page_size
from quire.errors import MisuseError
from quire.paging.context import Rights
from quire.paging.format import PagingFormat, level_of
from quire.paging.table_ranges import TableRanges
from quire.paging.table_tree import ENTRIES, TABLE, Row, TableMemory

__all__ = ["Mapping", "TableMemory", "Tables"]

#: What one page table maps.
_REGION = page_size(2)
_FRAME = PTE.mask("addr")
_WB = MemoryType.WB


@dataclass(frozen=True, slots=True)
class Mapping:
    """One leaf: `size` bytes of virtual addresses at `start` are physical addresses at `target`."""

    start: int
    target: int
    size: int
    rights: Rights
    accessed: bool
    dirty: bool
    entry: int
    entry_address: int

    @property
    def level(self) -> int:
        """The level of the leaf: 1, 2, 3 for 4 KiB, 2 MiB, 1 GiB."""
        return level_of(self.size)


class Tables(TableRanges):
    """A 4-level hierarchy in `form` whose root is allocated here and freed by :meth:`close`.

    `on_change` is called with start and size before what is mapped there is removed or changed, so that who remembers
    walks can forget them.
    """

    def __init__(
        self,
        memory: TableMemory,
        form: PagingFormat,
        on_change: Callable[[int, int], None] = lambda start, size: None,
    ) -> None:
        super().__init__(memory, form)
        self.on_change = on_change

    def addresses(self) -> list[int]:
        """Return the address of every table, in the order in which they were made."""
        return list(self._present)

    def lookup(self, address: int) -> Mapping | None:
        """Return the leaf that maps virtual `address`, or None. No side effect."""
        table = self._page_tables.get(address >> 21)
        if table is not None:
            where = table + (address >> 9 & 0xFF8)
            entry = self.memory.load(where)
            return self._mapping(address, entry, 1, where) if entry & self.form.present else None
        where, entry, level = self._path(address)[-1]
        if not self.form.is_present(entry):
            return None
        return self._mapping(address, entry, level, where)

    def target(self, address: int) -> int | None:
        """Return the physical address that virtual `address` is mapped to, or None: a quick :meth:`lookup`."""
        form = self.form
        table = self._page_tables.get(address >> 21)
        if table is not None:
            entry = self.memory.load(table + (address >> 9 & 0xFF8))
            return entry & _FRAME | address & 0xFFF if entry & form.present else None
        found = self.lookup(address)
        return None if found is None else found.target + (address - found.start)

    def map(
        self, address: int, target: int, size: int, rights: Rights, memory_type: MemoryType = _WB
    ) -> None:
        """Map `size` (4 KiB, 2 MiB or 1 GiB) bytes at `address` to `target`, both aligned to it.

        Raises MisuseError when something is mapped there already, and for a misaligned address or a memory type that
        the format's leaves cannot have.
        """
        level = level_of(size)
        if memory_type is not _WB:
            self.form.type_entry(memory_type)  # refuses what no leaf can have, before anything is made
        if (address | target) & size - 1:
            raise MisuseError(
                f"Mapping {address:#x} to {target:#x} is not aligned: both must be multiples of {size:#x}"
            )
        if failpoints.armed is not None:
            failpoints.reach("map", self.exhausted)
        where = self._reach(address, level)
        memory, form = self.memory, self.form
        if memory.load(where) & form.present:
            raise MisuseError(f"Address {address:#x} is mapped already at level {level}: unmap it first")
        if level == 1 and memory_type is _WB:  # no bit but these: a call less on the path of every fault
            memory.store(where, target | form.leaf_bits[rights])
        else:
            memory.store(where, form.leaf_entry(target, level, rights, memory_type=memory_type))
        self._present[where & TABLE] += 1
        self.mapped_bytes += size

    def unmap(self, address: int) -> Mapping:
        """Remove the leaf that maps `address` and the tables that this empties; return what it said.

        Raises MisuseError when nothing is mapped there.
        """
        found = self.lookup(address)
        if found is None:
            raise self._unmapped(address)
        if failpoints.armed is not None:
            failpoints.reach("unmap", self.exhausted)
        self.on_change(found.start, found.size)
        self.memory.store(found.entry_address, 0)
        self.mapped_bytes -= found.size
        table = found.entry_address & TABLE
        self._present[table] -= 1
        if not self._present[table] and table != self.root:
            self._collect(address, found.level)
        return found

    def protect(self, address: int, rights: Rights) -> Mapping:
        """Give the leaf that maps `address` new `rights`, its memory type and flags kept; return the old."""
        found = self.lookup(address)
        if found is None:
            raise self._unmapped(address)
        if failpoints.armed is not None:
            failpoints.reach("protect", self.exhausted)
        self.on_change(found.start, found.size)
        self.memory.store(found.entry_address, self.form.protected(found.entry, found.level, rights))
        return found

    def dirty_pages(self, region: int) -> list[int]:
        """Return the addresses of the 4 KiB leaves with a dirty flag in the 2 MiB at `region`, in order."""
        path = self._path(region)
        if len(path) < 4:
            return []
        row, wanted = self.row(path[3][0] & TABLE), np.uint64(self.form.present | self.form.dirty)
        return [(region + (int(n) << 12)) for n in np.flatnonzero(row & wanted == wanted)]

    def move_tables(self, start: int, end: int, to: int) -> None:
        """Have the page tables of the 2 MiB pieces from `start` to `end` map those from `to` on, entries and all.

        Pieces without a page table, and large pages, stay. Raises OutOfFrames before anything has changed, and
        MisuseError for addresses that are not multiples of 2 MiB or a target where something is mapped.
        """
        if (start | end | to) & _REGION - 1:
            raise MisuseError(f"{start:#x}, {end:#x} and {to:#x} must be multiples of {_REGION:#x}")
        pieces = [at for at in range(start, end, _REGION) if len(self._path(at)) == 4]
        try:
            wheres = [self._reach(at + to - start, 2) for at in pieces]
        except BaseException:
            for at in pieces:
                self._prune(at + to - start)
            raise
        for at, where in zip(pieces, wheres, strict=True):
            self._move_table(at, at + to - start, where)

    def _move_table(self, address: int, to: int, where: int) -> None:
        """Link the page table of the 2 MiB at `address` to the entry at `where`, which is that of `to`."""
        if self.form.is_present(self.memory.load(where)):
            raise MisuseError(f"Something is mapped in the {_REGION:#x} bytes at {to:#x}: unmap it first")
        self.on_change(address, _REGION)
        old, entry, _ = self._path(address)[2]
        self.memory.store(where, entry)
        self._present[where & TABLE] += 1
        self._page_tables.pop(address >> 21, None)
        self.memory.store(old, 0)
        self._present[old & TABLE] -= 1
        if not self._present[old & TABLE] and old & TABLE != self.root:
            self._collect(address, 2)

    def retarget(self, address: int, size: int, target: int) -> None:
        """Have the leaves that map `size` bytes from `address` map those at `target`, with rights and flags kept.

        Raises MisuseError when something there is not mapped, or a leaf reaches beyond.
        """
        leaves = []
        at = address
        while at < address + size:
            found = self.lookup(at)
            if found is None:
                raise self._unmapped(at)
            if found.start < address or found.start + found.size > address + size or target % found.size:
                raise MisuseError(
                    f"The page of {found.size:#x} bytes at {found.start:#x} cannot move to {target:#x} with "
                    f"{size:#x} bytes from {address:#x}: split it first"
                )
            leaves.append(found)
            at = found.start + found.size
        self.on_change(address, size)
        for leaf in leaves:
            entry = self.form.resized(leaf.entry, target + leaf.start - address, leaf.level)
            self.memory.store(leaf.entry_address, entry)

    def split(self, address: int) -> None:
        """Replace the large leaf that maps `address` by a table of 512 leaves one level down, alike in all else.

        Raises MisuseError when the page there has 4 KiB already, or nothing is mapped.
        """
        found = self.lookup(address)
        if found is None:
            raise self._unmapped(address)
        if found.level == 1:
            raise MisuseError(f"The page at {address:#x} has 0x1000 bytes: there is nothing smaller")
        if failpoints.armed is not None:
            failpoints.reach("split", self.exhausted)
        table = self._allocate()
        self.on_change(found.start, found.size)
        below = found.level - 1
        self.write_rows([(table, self._parts(found.entry, found.target, below))])
        self._present[table] = ENTRIES
        self.memory.store(found.entry_address, self.form.table_entry(table))
        if below == 1:
            self._page_tables[address >> 21] = table

    def join(self, address: int) -> bool:
        """Replace the 512 leaves beside `address` by one large leaf, if they are contiguous, aligned and alike.

        Accessed and dirty flags may differ: the large leaf has the union. Returns whether it was done.
        """
        path = self._path(address)
        if len(path) < 2 or not self.form.is_present(path[-1][1]) or path[-1][2] > 2:
            return False
        parent, parent_entry, level = path[-2]
        table, below, flags = (
            self.form.address(parent_entry, level),
            level - 1,
            self.form.accessed | self.form.dirty,
        )
        entries = self.row(table)
        base = self.form.address(int(entries[0]), below)
        differs = (entries ^ self._parts(int(entries[0]), base, below)) & np.uint64(~flags & WORD)
        if not self.form.is_present(int(entries[0])) or base % page_size(level) or differs.any():
            return False
        large = self.form.resized(int(entries[0]), base, level) | int(np.bitwise_or.reduce(entries)) & flags
        self.on_change(address & -page_size(level), page_size(level))
        self.memory.store(parent, large)
        self._free(table)
        self._page_tables.pop(address >> 21, None)
        return True

    def mappings(self) -> Iterator[Mapping]:
        """Yield every leaf in ascending address order."""
        yield from self._leaves(self.root, 4, 0)

    def close(self) -> None:
        """Free every table, root included. What the leaves map is the caller's."""
        self.on_change(0, 1 << 48)
        self._page_tables.clear()
        self._free_below(self.root, 4)
        self.mapped_bytes = 0

    def _leaves(self, table: int, level: int, base: int) -> Iterator[Mapping]:
        for n, entry in enumerate(self._entries(table)):
            if not self.form.is_present(entry):
                continue
            start = base + (n << level_shift(level))
            if self.form.is_leaf(entry, level):
                yield self._mapping(start, entry, level, table + 8 * n)
            else:
                yield from self._leaves(self.form.address(entry, level), level - 1, start)

    def _free_below(self, table: int, level: int) -> None:
        if level > 1:
            row = self.row(table)
            for entry in row[row != 0].tolist():
                if self.form.is_present(entry) and not self.form.is_leaf(entry, level):
                    self._free_below(self.form.address(entry, level), level - 1)
        self._free(table)

    def _parts(self, entry: int, target: int, level: int) -> Row:
        """Return the 512 leaves of `level` that map, from `target` on, what one leaf like `entry` would."""
        first = np.uint64(self.form.resized(entry, target, level))
        parts: Row = first + np.arange(ENTRIES, dtype=np.uint64) * np.uint64(page_size(level))
        return parts

    def _mapping(self, address: int, entry: int, level: int, where: int) -> Mapping:
        size = page_size(level)
        return Mapping(
            start=address & ~(size - 1),
            target=self.form.address(entry, level),
            size=size,
            rights=self.form.rights(entry),
            accessed=bool(entry & self.form.accessed),
            dirty=bool(entry & self.form.dirty),
            entry=entry,
            entry_address=where,
        )

    def _unmapped(self, address: int) -> MisuseError:
        return MisuseError(f"Nothing is mapped at {address:#x}: map it first")
