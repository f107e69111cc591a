"""The 4 KiB leaves of a memory map as a log sees them: armed, scanned for the soiled ones, armed again.

Tables in frames of the host are read and written many at a time; a map whose writes somebody notes, entry by entry.
"""

import numpy as np
import numpy.typing as npt

from quire.arch import PAGE_SHIFT
from quire.memory import HostMemory
from quire.mmu.replicated_tables import ReplicatedTables
from quire.observe.dirty.way import DirtyWay
from quire.paging import Tables
from quire.paging.table_tree import ENTRIES

__all__ = ["Leaves"]

Frames = npt.NDArray[np.int64]
_TABLES_AT_ONCE = 256  # 1 MiB of entries: they stay in a cache
_INDEX = ENTRIES - 1


class Leaves:
    """Leaves of `memory_map` in `way`, of a guest with `count` frames."""

    def __init__(self, memory: HostMemory, memory_map: Tables, way: DirtyWay, count: int) -> None:
        self._frames, self._map, self._way, self._count = memory.frames, memory_map, way, count
        copies = memory_map.memory
        self._rows = copies.rows if isinstance(copies, ReplicatedTables) else self._frames.__getitem__

    def scan(self) -> npt.NDArray[np.bool_]:
        """Return which frames' leaves are soiled."""
        regions, tables = self._tables()
        flag = np.uint64(self._way.flag)
        found = np.zeros(-(-self._count // ENTRIES) * ENTRIES, np.bool_)
        by_table = found.reshape(-1, ENTRIES)
        for n in range(0, tables.size, _TABLES_AT_ONCE):
            rows = self._rows(tables[n : n + _TABLES_AT_ONCE])
            by_table[regions[n : n + _TABLES_AT_ONCE]] = rows & flag != 0
        return found[: self._count]

    def arm(self, frames: Frames) -> None:
        """Let the next write to each of `frames` be noticed; those that are not mapped are passed over."""
        regions, tables = self._tables()
        table_of = np.zeros(-(-self._count // ENTRIES), np.int64)
        table_of[regions] = tables
        table, index = table_of[frames // ENTRIES], frames & _INDEX
        index, table = index[table != 0], table[table != 0]
        memory = self._map.memory
        if hasattr(memory, "row"):
            self._frames[table, index] = self._way.arm(self._frames[table, index])
            return
        for where in ((table << PAGE_SHIFT) + 8 * index).tolist():
            old = memory.load(where)
            new = int(self._way.arm(np.array([old], np.uint64))[0])
            if new != old:
                memory.store(where, new)

    def armed(self, gpa: int) -> bool:
        """Return whether the leaf of `gpa` waits for a write."""
        _, entry = self._leaf(gpa)
        return entry & self._map.form.present != 0 and self._way.soil(entry) != entry

    def soiled(self, gpa: int) -> bool:
        """Return whether the leaf of `gpa` was written since it was armed."""
        _, entry = self._leaf(gpa)
        return entry & self._map.form.present != 0 and self._way.is_soiled(entry)

    def soil(self, gpa: int) -> bool:
        """Note a write in the leaf of `gpa`; return whether it was armed before."""
        where, entry = self._leaf(gpa)
        soiled = self._way.soil(entry)
        if soiled == entry or not entry & self._map.form.present:
            return False
        self._map.memory.store(where, soiled)
        return True

    def _leaf(self, gpa: int) -> tuple[int, int]:
        """Return where the leaf of `gpa` is, and the leaf; 0 and 0 when there is no page table."""
        table = self._map.page_tables.get(gpa >> PAGE_SHIFT + 9)
        if table is None:
            return 0, 0
        where = table + 8 * (gpa >> PAGE_SHIFT & _INDEX)
        return where, self._map.memory.load(where)

    def _tables(self) -> tuple[Frames, Frames]:
        """Return the 2 MiB regions that have page tables, and the host frames of these."""
        known = self._map.page_tables
        regions = np.fromiter(known.keys(), np.int64, len(known))
        return regions, np.fromiter(known.values(), np.int64, len(known)) >> PAGE_SHIFT
