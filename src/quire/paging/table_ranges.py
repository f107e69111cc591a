"""Ranges of a hierarchy, a table at a time: map, unmap and protect many pages with a few array operations.

All or nothing: what is refused (OutOfFrames, MisuseError, a store that fails) leaves every entry as it was, and no
empty table. `on_change` is called once for a range.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from quire import failpoints
from quire.arch import PAGE_SIZE, PTE, gva_index, level_shift, page_size
from quire.errors import MisuseError
from quire.paging.context import Rights
from quire.paging.format import PagingFormat, level_of
from quire.paging.table_tree import ENTRIES, TABLE, Row, TableMemory, TableTree

__all__ = ["MappedRange", "TableRanges"]

_PS = PTE.mask("PAT")  # the same bit, in an entry that is no page table's
_ADDRESS = np.uint64(PTE.mask("addr"))
_TOP = 1 << 48
_LEVELS = (1, 2, 3)


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
        offsets = np.array([0, *(page_size(level) - 1 for level in _LEVELS)], np.uint64)
        found: Row = self.entries & _ADDRESS & ~offsets[self.levels]
        return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Leaves of one table within a range: their indices and their entries."""

    table: int
    level: int
    base: int  #: what entry 0 maps
    indices: Row
    entries: Row


class TableRanges(TableTree):
    """Operations on ranges of the tables under one root."""

    on_change: Callable[[int, int], None]

    def __init__(self, memory: TableMemory, form: PagingFormat) -> None:
        super().__init__(memory, form)
        self.mapped_bytes = 0

    def map_range(
        self, address: int, targets: int | Row, size: int, rights: Rights, page: int = PAGE_SIZE
    ) -> None:
        """Map `size` bytes at `address` in pages of `page` bytes to `targets`: where they begin, or each page's place.

        Raises MisuseError for what is not aligned to `page`, a count that does not fit, and what is mapped already.
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
        entries = places | np.uint64(self.form.leaf_entry(0, level, rights))
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
                self._collect(piece.base, piece.level)
        return _joined(pieces)

    def protect_range(self, address: int, length: int, rights: Rights) -> MappedRange:
        """Give the leaves within `length` bytes from `address` new `rights`, their flags kept; return the old ones.

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
        kept = _ADDRESS & ~np.uint64(page_size(piece.level) - 1) | np.uint64(
            self.form.accessed | self.form.dirty
        )
        found: Row = piece.entries & kept | np.uint64(self.form.leaf_entry(0, piece.level, rights))
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
            yield from self._pieces(self.root, 4, 0, address, address + length)

    def _pieces(self, table: int, level: int, base: int, start: int, end: int) -> Iterator[_Piece]:
        shift = level_shift(level)
        first, last = max(start - base, 0) >> shift, min(end - base - 1 >> shift, ENTRIES - 1)
        row = self.row(table)[first : last + 1].copy()
        present = row & np.uint64(self.form.present) != 0
        leaves = (
            present if level == 1 else present & (row & np.uint64(_PS) != 0) if level < 4 else present & False
        )
        indices = np.flatnonzero(leaves).astype(np.uint64)
        if indices.size:
            for edge in (first, last) if level > 1 else ():
                here = base + (edge << shift)
                if leaves[edge - first] and (here < start or here + (1 << shift) > end):
                    raise MisuseError(
                        f"Address {here:#x} lies in a page of {1 << shift:#x} bytes that the range cuts: split it first"
                    )
            yield _Piece(table, level, base, indices + np.uint64(first), row[indices])
        for n in np.flatnonzero(present & ~leaves).tolist() if level > 1 else ():
            below = self.form.address(int(row[n]), level)
            yield from self._pieces(below, level - 1, base + (first + n << shift), start, end)


def _check_range(address: int, length: int, page: int) -> None:
    if (address | length) & page - 1 or address < 0 or length < 0 or address + length > _TOP:
        raise MisuseError(
            f"{length:#x} bytes from {address:#x} are no range of pages: give multiples of {page:#x} below {_TOP:#x}"
        )


def _joined(pieces: list[_Piece]) -> MappedRange:
    """Return the leaves of all `pieces` as arrays."""
    empty = np.empty(0, np.uint64)
    starts = [piece.indices * np.uint64(page_size(piece.level)) + np.uint64(piece.base) for piece in pieces]
    levels = [np.full(piece.indices.size, piece.level, np.uint64) for piece in pieces]
    places = [piece.indices * np.uint64(8) + np.uint64(piece.table) for piece in pieces]
    entries = [piece.entries for piece in pieces]
    arrays = [np.concatenate([empty, *parts]) for parts in (starts, entries, levels, places)]
    if len({piece.level for piece in pieces}) > 1:
        order = np.argsort(arrays[0])
        arrays = [array[order] for array in arrays]
    return MappedRange(*arrays)
