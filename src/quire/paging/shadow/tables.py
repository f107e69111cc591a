"""Shadow tables: the entries of shadow pages set, linked, dropped and write-protected, with every back reference kept.

Invariants, which the audit checks: a present table entry references a page that lists it as parent; a present leaf is
in the reverse map; no leaf that allows writes maps a frame whose shadows are in sync. Whoever takes something away
that a TLB may hold sets :attr:`ShadowTables.stale`; flushing is the caller's.
"""

from collections.abc import Hashable
from typing import Protocol

import numpy as np

from quire.arch import PAGE_SHIFT, PDE, PDE_4M, PTE, PagingMode
from quire.memory import HostMemory
from quire.paging.shadow.page import ENTRIES, FrameSource, ShadowPage, ShadowPages
from quire.paging.shadow.reverse_map import ReverseMap
from quire.paging.shadow.role import Role

__all__ = ["EntryMemory", "ShadowTables", "leaf_entry"]

_P, _RW, _US, _A, _D, _G, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
_PS, _ADDRESS = PDE.mask("PS"), PTE.mask("addr")
_LINK = _P | _RW | _US | _A
_TABLE = ~((1 << PAGE_SHIFT) - 1)
_BASE_4M, _HIGH_4M = PDE_4M.mask("addr"), PDE_4M.mask("addr_high")
_HIGH_4M_UP = 32 - PDE_4M.shift("addr_high")


class EntryMemory(Protocol):
    """Memory of entries by HPA."""

    def load(self, hpa: int) -> int:
        """Return the 8-byte entry at `hpa`."""
        ...

    def store(self, hpa: int, value: int) -> None:
        """Write the 8-byte entry at `hpa`."""
        ...


def leaf_entry(hpa: int, level: int, access: int, *, writable: bool, is_global: bool) -> int:
    """Return the shadow leaf of `level` that maps `hpa` with `access` (see :class:`Role`), as hardware reads it.

    Accessed is set, dirty when it allows writes: hardware has no flag left to set, the guest's own are set by the
    fault that makes the leaf.
    """
    entry = hpa | _P | _A | access & (_US | _XD) | (_PS if level > 1 else 0) | (_G if is_global else 0)
    return entry | _RW | _D if writable and access & _RW else entry


class ShadowTables:
    """The shadow pages of one guest as hierarchies of entries."""

    def __init__(self, memory: HostMemory, frames: FrameSource, limit: int) -> None:
        self.memory: EntryMemory = memory
        self.pages = ShadowPages(memory, frames, limit)
        self.reverse = ReverseMap()
        self.stale = False  #: a TLB may hold what is no longer there
        self.generation = 0  #: grows when a page is unlinked or goes
        self.zapped = 0

    def frame_of(self, page: ShadowPage, index: int, entry: int) -> int:
        """Return the guest frame that leaf `entry`, at `index` of the table that `page` shadows, maps."""
        if page.role.mode == PagingMode.BITS_32 and page.role.level == 2:
            address = entry & _BASE_4M | (entry & _HIGH_4M) << _HIGH_4M_UP
            return (address >> PAGE_SHIFT) + ENTRIES * (index & 1)
        frames = 1 << 9 * (page.role.level - 1)
        return (entry & _ADDRESS) >> PAGE_SHIFT & -frames

    def mapped_frame(self, page: ShadowPage, index: int) -> int:
        """Return the guest frame that the present leaf at `index` of `page` maps."""
        if page.guest is None:
            return page.frame + (index << 9 * (page.role.level - 1))
        return self.frame_of(page, index, page.source[index])

    def new_page(self, key: Hashable, frame: int, role: Role, guest: int | None) -> ShadowPage:
        """Return a new page; the guest table that it shadows is write-protected from now on."""
        page = self.pages.add(key, frame, role, guest)
        if guest is not None:
            self.write_protect(frame)
        return page

    def link(self, parent: ShadowPage, index: int, child: ShadowPage, source: int) -> None:
        """Make entry `index` of `parent`, which is not present, reference `child`, because of guest entry `source`."""
        where = parent.table + 8 * index
        self.memory.store(where, child.table | _LINK)
        parent.source[index] = source
        child.parents[where] = parent

    def set_leaf(self, page: ShadowPage, index: int, frame: int, entry: int, source: int) -> None:
        """Write leaf `entry`, which maps guest `frame` because of guest entry `source`, in place of what is there."""
        where, level = page.table + 8 * index, page.role.level
        old = self.memory.load(where)
        if old & _P:
            same = not self.is_link(page, old) and (old ^ entry) & _ADDRESS == 0
            if not same or self.mapped_frame(page, index) != frame:
                self.drop(page, index)
                self.reverse.add(frame, level, where)
            elif old & ~entry & (_RW | _US) or entry & ~old & _XD:
                self.stale = True
        else:
            self.reverse.add(frame, level, where)
        page.source[index] = source
        self.memory.store(where, entry)

    def is_link(self, page: ShadowPage, entry: int) -> bool:
        """Whether present `entry` of `page` references another shadow page."""
        return page.role.level > 1 and not entry & _PS

    def child(self, page: ShadowPage, index: int) -> ShadowPage | None:
        """Return the page that entry `index` references, or None."""
        entry = self.memory.load(page.table + 8 * index)
        if not entry & _P or not self.is_link(page, entry):
            return None
        return self.pages.by_table[entry & _ADDRESS]

    def drop(self, page: ShadowPage, index: int) -> None:
        """Make entry `index` not present."""
        where = page.table + 8 * index
        entry = self.memory.load(where)
        if not entry & _P:
            return
        if self.is_link(page, entry):
            del self.pages.by_table[entry & _ADDRESS].parents[where]
            self.generation += 1
        else:
            self.reverse.remove(self.mapped_frame(page, index), page.role.level, where)
        self.memory.store(where, 0)
        page.source[index] = 0
        self.stale = True

    def drop_at(self, where: int) -> None:
        """Make the entry at HPA `where` not present."""
        self.drop(self.pages.by_table[where & _TABLE], (where & ~_TABLE) >> 3)

    def present(self, page: ShadowPage) -> list[int]:
        """Return the indices of present entries."""
        found: list[int] = np.flatnonzero(self.pages.table(page)).tolist()
        return found

    def empty(self, page: ShadowPage) -> None:
        """Make every entry of `page` not present."""
        for index in self.present(page):
            self.drop(page, index)

    def zap(self, page: ShadowPage) -> None:
        """Take `page` out of all hierarchies and free it."""
        self.empty(page)
        for where, parent in list(page.parents.items()):
            self.drop(parent, (where & ~_TABLE) >> 3)
        self.pages.remove(page)
        self.generation += 1
        self.zapped += 1

    def write_protect(self, frame: int) -> None:
        """Take the right to write guest `frame` from every leaf; large ones that reach beyond it go."""
        for level in (2, 3):
            frames = 1 << 9 * (level - 1)
            for where in self.reverse.leaves(frame & -frames, level):
                self.drop_at(where)
        for where in self.reverse.leaves(frame, 1):
            self.forbid_writes(where)

    def forbid_writes(self, where: int) -> None:
        """Take the right to write from the leaf at HPA `where`."""
        entry = self.memory.load(where)
        if entry & _RW:
            self.memory.store(where, entry & ~(_RW | _D))
            self.stale = True

    def drop_leaves(self, first: int, count: int) -> None:
        """Drop every leaf that maps any of `count` guest frames from `first`."""
        for _, _, where in self.reverse.within(first, count):
            self.drop_at(where)

    def shadowing(self, first: int, count: int) -> list[ShadowPage]:
        """Return the pages that shadow a table in any of `count` guest frames from `first`."""
        frames = self.pages.by_frame
        known = (
            [n for n in range(first, first + count) if n in frames] if count < len(frames) else list(frames)
        )
        return [page for n in known if first <= n < first + count for page in frames[n]]
