"""Ranges of a hierarchy, a table at a time: map, unmap and protect many pages with a few array operations.

All or nothing: what is refused (OutOfFrames, MisuseError, a store that fails) leaves every entry as it was, and no
empty table. `on_change` is called once for a range.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quire import failpoints
from quire.arch import PAGE_SIZE, PTE, WORD, MemoryType, gva_index, level_shift, page_size
from quire.errors import MisuseError
from quire.paging.context import Rights
from quire.paging.format import PagingFormat, level_of
from quire.paging.table_tree import ENTRIES, TABLE, Row, TableMemory, TableTree

__all__ = ["MappedRange", "TableRanges"]

_PS = PTE.mask("PAT")  # the same bit, in an entry that is no page table's
_ADDRESS = np.uint64(PTE.mask("addr"))
_TOP = 1 << 48
_SIZES = np.array([0, *(page_size(level) for level in (1, 2, 3))], np.uint64)
_INDICES = np.arange(ENTRIES, dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class MappedRange:
    """Leaves in ascending order: where each starts, its entry, its level, where the entry is; arrays of one length."""

    starts: Row
    entries: Row
    levels: Row
    places: Row

    @property
    def targets(self) -> Row:
        """The physical address of each page."""
        found: Row = self.entries & _ADDRESS & ~(_SIZES[self.levels] - np.uint64(1))
        return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Leaves of one table within a range: their indices and their entries."""

    table: int
    level: int
    base: int  #: what entry 0 maps
    parent: int  #: where the table's own entry is
    indices: Row
    entries: Row


class TableRanges(TableTree):
    """Operations on ranges of the tables under one root."""

    on_change: Callable[[int, int], None]

    def copy_read_only(self, source: "TableRanges", starts: Row) -> None:
        """Map the 4 KiB pages at `starts`, ascending and not mapped here, as `source` maps them.

        Neither may be written then. Accessed and dirty flags are clear here. Raises OutOfFrames with what was
        copied so far.
        """
        form, bits = self.form, self.form.leaf_bits
        read_only = np.uint64(~(bits[Rights.READ | Rights.WRITE] ^ bits[Rights.READ]) & WORD)
        flags = np.uint64(~(form.accessed | form.dirty) & WORD)
        source.on_change(int(starts[0]), int(starts[-1]) - int(starts[0]) + PAGE_SIZE)
        regions, firsts = np.unique(starts >> np.uint64(21), return_index=True)
        for region, pages in zip(regions.tolist(), np.split(starts, firsts[1:]), strict=True):
            theirs = source._page_tables[region]
            ours = self._reach(region << 21, 1) & TABLE
            indices = pages >> np.uint64(12) & np.uint64(ENTRIES - 1)
            old, new = source.row(theirs).copy(), self.row(ours).copy()
            old[indices] &= read_only
            new[indices] = old[indices] & flags
            source.write_rows([(theirs, old)])
            self.write_rows([(ours, new)])
            self._present[ours] += len(pages)
            self.mapped_bytes += len(pages) * PAGE_SIZE

    def __init__(self, memory: TableMemory, form: PagingFormat) -> None:
        super().__init__(memory, form)
        self.mapped_bytes = 0

    def map_range(
        self,
        address: int,
        targets: int | Row,
        size: int,
        rights: Rights,
        page: int = PAGE_SIZE,
        memory_type: MemoryType = MemoryType.WB,
    ) -> None:
        """Map `size` bytes at `address` in pages of `page` bytes to `targets`: where they begin, or each page's place.

        Raises MisuseError for what is not aligned to `page`, a count that does not fit, what is mapped already, and a
        memory type that the format's leaves cannot have.
        """
        level = level_of(page)
        count = size // page
        places = (
            np.arange(count, dtype=np.uint64) * np.uint64(page) + np.uint64(targets)
            if isinstance(targets, int)
            else targets.astype(np.uint64)
        )
        _check_range(address, size, page)
        if places.size != count:
            raise MisuseError(f"{places.size} targets for {count} pages of {page:#x} bytes: give one a page")
        if places.size and int(np.bitwise_or.reduce(places)) & (page - 1):
            raise MisuseError(f"A target is not aligned: all must be multiples of {page:#x}")
        entries = places | np.uint64(self.form.leaf_entry(0, level, rights, memory_type=memory_type))
        reached: list[int] = []
        pieces: list[tuple[int, Row]] = []
        present = np.uint64(self.form.present)
        try:
            done = 0
            while done < count:
                here = address + done * page
                reached.append(here)
                if failpoints.armed is not None:
                    failpoints.reach("map", self.exhausted)
                where = self._reach(here, level)
                first = gva_index(here, level)
                run = entries[done : done + ENTRIES - first]
                there = self.row(where & TABLE)[first : first + run.size] & present
                if there.any():
                    taken = here + int(np.flatnonzero(there)[0]) * page
                    raise MisuseError(
                        f"Address {taken:#x} is mapped already at level {level}: unmap it first"
                    )
                pieces.append((where, run))
                done += run.size
            self.write_rows(pieces)
        except BaseException:
            for here in reached:
                self._prune(here)
            raise
        for where, run in pieces:
            self._present[where & TABLE] += run.size
        self.mapped_bytes += size

    def leaves(self, address: int, length: int) -> MappedRange:
        """Return the leaves within `length` bytes from `address`. Raises MisuseError when that cuts a large page."""
        return _joined(list(self._leaf_pieces(address, length)))

    def rewrite(self, address: int, length: int, change: Callable[[Row], Row]) -> None:
        """Make each leaf within `length` bytes from `address` what `change` makes of an array of them.

        They stay present; :attr:`on_change` does not hear of it: what has to be forgotten is the caller's to know.
        """
        pieces = list(self._leaf_pieces(address, length))
        self.write_rows(self._rows(piece, change(piece.entries)) for piece in pieces)

    def unmap_range(self, address: int, length: int) -> MappedRange:
        """Remove the leaves within `length` bytes from `address` and the tables that this empties; return them.

        Holes are passed over. Raises MisuseError when the range cuts a large page.
        """
        pieces = list(self._leaf_pieces(address, length))
        if not pieces:
            return _joined(pieces)
        self.on_change(address, length)
        self.write_rows(self._rows(piece, np.zeros(piece.entries.size, np.uint64)) for piece in pieces)
        for piece in pieces:
            self.mapped_bytes -= piece.entries.size * page_size(piece.level)
            self._present[piece.table] -= piece.entries.size
            if not self._present[piece.table] and piece.table != self.root:
                self._drop(piece)
        return _joined(pieces)

    def protect_range(self, address: int, length: int, rights: Rights) -> MappedRange:
        """Give the leaves within `length` bytes from `address` new `rights`, else kept; return the old ones.

        Raises MisuseError when the range cuts a large page.
        """
        if failpoints.armed is not None:
            failpoints.reach("protect", self.exhausted)
        pieces = list(self._leaf_pieces(address, length))
        if pieces:
            self.on_change(address, length)
            self.write_rows(self._rows(piece, self._protected(piece, rights)) for piece in pieces)
        return _joined(pieces)

    def _protected(self, piece: _Piece, rights: Rights) -> Row:
        form = self.form
        kept = _ADDRESS & ~np.uint64(page_size(piece.level) - 1) | np.uint64(
            form.type_bits | form.accessed | form.dirty
        )
        found: Row = piece.entries & kept | np.uint64(form.protected(0, piece.level, rights))
        return found

    def _rows(self, piece: _Piece, values: Row) -> tuple[int, Row]:
        """Return the run of `piece.table` from its first leaf to its last with `values` put where the leaves are."""
        first, last = int(piece.indices[0]), int(piece.indices[-1])
        if last - first + 1 == values.size:
            return piece.table + 8 * first, values
        run = self.row(piece.table)[first : last + 1].copy()
        run[piece.indices - np.uint64(first)] = values
        return piece.table + 8 * first, run

    def _leaf_pieces(self, address: int, length: int) -> Iterator[_Piece]:
        _check_range(address, length, PAGE_SIZE)
        if length:
            yield from self._pieces(self.root, 4, 0, (address, address + length), 0)

    def _pieces(
        self, table: int, level: int, base: int, span: tuple[int, int], parent: int
    ) -> Iterator[_Piece]:
        """Yield what of `table`, which maps from `base` on and whose entry is at `parent`, lies in `span`."""
        start, end = span
        shift = level_shift(level)
        first, last = max(start - base, 0) >> shift, min(end - base - 1 >> shift, ENTRIES - 1)
        row = self.row(table)[first : last + 1].copy()
        present = row & np.uint64(self.form.present) != 0
        if level == 1:
            leaves = present
        elif level < 4:
            leaves = present & (row & np.uint64(_PS) != 0)
        else:
            leaves = np.zeros_like(present)
        indices = _INDICES[first : last + 1]
        if leaves.all():
            chosen = row
        else:
            indices, chosen = indices[leaves], row[leaves]
        if indices.size:
            for edge in (first, last) if level > 1 else ():
                here = base + (edge << shift)
                if leaves[edge - first] and (here < start or here + (1 << shift) > end):
                    raise MisuseError(
                        f"Address {here:#x} lies in a page of {1 << shift:#x} bytes that the range cuts: split it first"
                    )
            yield _Piece(table, level, base, parent, indices, chosen)
        for n in np.flatnonzero(present & ~leaves).tolist() if level > 1 else ():
            below, where = self.form.address(int(row[n]), level), table + 8 * (first + n)
            yield from self._pieces(below, level - 1, base + (first + n << shift), span, where)

    def _drop(self, piece: _Piece) -> None:
        """Free the table of `piece`, which is empty, and those above it that this empties."""
        above = piece.parent & TABLE
        self.memory.store(piece.parent, 0)
        self._free(piece.table)
        if piece.level == 1:
            self._page_tables.pop(piece.base >> 21, None)
        self._present[above] -= 1
        if not self._present[above] and above != self.root:
            self._collect(piece.base, piece.level + 1)


def _check_range(address: int, length: int, page: int) -> None:
    if (address | length) & page - 1 or address < 0 or length < 0 or address + length > _TOP:
        raise MisuseError(
            f"{length:#x} bytes from {address:#x} are no range of pages: give multiples of {page:#x} below {_TOP:#x}"
        )


def _joined(pieces: list[_Piece]) -> MappedRange:
    """Return the leaves of all `pieces` as arrays."""
    counts = [piece.entries.size for piece in pieces]
    every = np.array([(piece.base, piece.level, piece.table) for piece in pieces], np.uint64).reshape(-1, 3)
    columns: list[Row] = [np.repeat(every[:, n], counts) for n in range(3)]
    bases, levels, tables = columns
    indices: Row = np.concatenate([_INDICES[:0], *(piece.indices for piece in pieces)])
    entries = np.concatenate([_INDICES[:0], *(piece.entries for piece in pieces)])
    found = MappedRange(bases + indices * _SIZES[levels], entries, levels, tables + indices * np.uint64(8))
    if len({piece.level for piece in pieces}) < 2:
        return found
    order = np.argsort(found.starts)
    return MappedRange(*(array[order] for array in (found.starts, found.entries, found.levels, found.places)))
