"""The tree of tables under one root: entries by address, rows, tables made on the way down and freed when empty.

Beside the entries themselves are kept only how many present entries each table has, and where the page table of each
2 MiB is. A memory that offers rows is written by rows; any other, a guest's under shadow say, entry by entry.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quire.arch import gva_index, page_size
from quire.errors import MisuseError
from quire.memory import OutOfFrames, Owner, OwnerKind
from quire.paging.context import Dimension
from quire.paging.format import PagingFormat

__all__ = ["ENTRIES", "TABLE", "Row", "TableMemory", "TableTree"]

ENTRIES = 512
TABLE = ~0xFFF  # an entry's address without its index is its table's
Row = npt.NDArray[np.uint64]


class TableMemory(Protocol):
    """Where a hierarchy keeps its tables. Addresses are those that the entries hold: GPA or HPA, in bytes.

    It may offer ``row(address) -> Row`` besides: the 512 entries of the table at `address`, to be written in place.
    """

    def load(self, address: int) -> int:
        """Return the 8-byte entry at `address`."""
        ...

    def store(self, address: int, entry: int) -> None:
        """Write the 8-byte entry at `address`."""
        ...

    def allocate_table(self) -> int:
        """Return the address of a zeroed page for a table."""
        ...

    def free_table(self, address: int) -> None:
        """Take back a table's page."""
        ...


class TableTree:
    """The tables in `form` under a root that is allocated here."""

    def __init__(self, memory: TableMemory, form: PagingFormat) -> None:
        self.memory = memory
        self.form = form
        self._present: dict[int, int] = {}
        # Address of each page table by the 2 MiB that it maps: spares three loads of four. Dropped with the table.
        self._page_tables: dict[int, int] = {}
        self.root = self._allocate()

    @property
    def table_count(self) -> int:
        """How many pages the tables take, root included."""
        return len(self._present)

    @property
    def page_tables(self) -> Mapping[int, int]:
        """Address of each table of 4 KiB leaves, by virtual address >> 21."""
        return MappingProxyType(self._page_tables)

    def row(self, table: int) -> Row:
        """Return the entries of `table`: read them only, and before anything changes."""
        row_of = getattr(self.memory, "row", None)
        if row_of is not None:
            found: Row = row_of(table)
            return found
        return np.fromiter(self._entries(table), np.uint64, ENTRIES)

    def write_rows(self, pieces: Iterable[tuple[int, Row]]) -> None:
        """Write each run of entries at its address, within one table; all or none, whatever a store raises."""
        row_of = getattr(self.memory, "row", None)
        if row_of is not None:
            for where, values in pieces:
                first = where >> 3 & ENTRIES - 1
                row_of(where & TABLE)[first : first + values.size] = values
            return
        load, store, done = self.memory.load, self.memory.store, list[tuple[int, int]]()
        try:
            for where, values in pieces:
                for at, value in enumerate(values.tolist()):
                    old = load(where + 8 * at)
                    if old != value:
                        store(where + 8 * at, value)
                        done.append((where + 8 * at, old))
        except BaseException:
            for address, old in reversed(done):
                store(address, old)
            raise

    def _entries(self, table: int) -> Iterator[int]:
        return (self.memory.load(table + 8 * n) for n in range(ENTRIES))

    def _collect(self, address: int, level: int) -> None:
        """Free the empty table that holds the entry of `level` for `address`, and those above it that this empties."""
        path = self._path(address)
        for depth in range(4 - level, 0, -1):
            table, parent = path[depth][0] & TABLE, path[depth - 1][0]
            self.memory.store(parent, 0)
            self._free(table)
            if depth == 3:
                self._page_tables.pop(address >> 21, None)
            self._present[parent & TABLE] -= 1
            if self._present[parent & TABLE]:
                break

    def _allocate(self) -> int:
        table = self.memory.allocate_table()
        self._present[table] = 0
        return table

    def _free(self, table: int) -> None:
        self.memory.free_table(table)
        del self._present[table]

    def _reach(self, address: int, level: int) -> int:
        """Return the address of the entry of `level` for `address`, making the tables above it."""
        if level == 1:
            table = self._page_tables.get(address >> 21)
            if table is not None:
                return table + (address >> 9 & 0xFF8)
        table = self.root
        for upper in range(4, level, -1):
            where = table + 8 * gva_index(address, upper)
            entry = self.memory.load(where)
            if not self.form.is_present(entry):
                entry = self.form.table_entry(self._allocate())
                self.memory.store(where, entry)
                self._present[table] += 1
            elif self.form.is_leaf(entry, upper):
                raise MisuseError(
                    f"Address {address:#x} lies in a page of {page_size(upper):#x} bytes: split it first"
                )
            table = self.form.address(entry, upper)
        if level == 1:
            self._page_tables[address >> 21] = table
        return table + 8 * gva_index(address, level)

    def _path(self, address: int) -> list[tuple[int, int, int]]:
        """Return (entry address, entry, level) from the root to the leaf, or to the first hole."""
        path, table = [], self.root
        for level in (4, 3, 2, 1):
            where = table + 8 * gva_index(address, level)
            entry = self.memory.load(where)
            path.append((where, entry, level))
            if not self.form.is_present(entry) or self.form.is_leaf(entry, level):
                break
            table = self.form.address(entry, level)
        return path

    def _prune(self, address: int) -> None:
        """Free the empty table that the path to `address` ends in, if it is one, and those that this empties."""
        where, _, level = self._path(address)[-1]
        table = where & TABLE
        if table != self.root and not self._present[table]:
            self._collect(address, level)

    def exhausted(self) -> OutOfFrames:
        """Return what a mapping raises that finds no frame for a table: what a point of failure raises."""
        kind = OwnerKind.EPT_TABLE if self.form.dimension is Dimension.HOST else OwnerKind.GUEST_TABLE
        return OutOfFrames(0, Owner(kind, "tables"), 0, None)
