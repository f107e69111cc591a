"""Coherence: shadow entries follow the guest's tables, at once or when the guest flushes, as a TLB may (SDM 3A §4.10).

A table above the leaves is always in sync: a write to it exits, is carried out, and :meth:`Coherence.written` compares
table and shadow. A page table may go out of sync: the guest then writes it freely, and its shadow is compared when the
guest invalidates. A table that is written three times without being used loses its shadow (KVM, mmu.rst).
"""

from collections.abc import Iterable

import numpy as np

from quire.arch import PAE_PTE, PTE, PagingMode
from quire.paging.shadow.page import ShadowPage
from quire.paging.shadow.role import combine
from quire.paging.shadow.tables import ShadowTables, leaf_entry

__all__ = ["Coherence"]

_P, _RW, _US, _D, _G, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "D", "G", "XD"))
_ADDRESS = PTE.mask("addr")
#: Bits of a guest leaf that may change while its shadow is mended in place: rights, flags, and what is ignored.
_MENDABLE = _RW | _US | _D | _G | _XD
#: Writes to a table above the leaves, without a use of it between them, that end its shadow.
_FLOOD = 3


class Coherence:
    """Keeps `tables` coherent. `roots` are by PCID the root pages that the guest loaded, `root` is the one in use."""

    def __init__(self, tables: ShadowTables) -> None:
        self._tables = tables
        self.root: ShadowPage | None = None
        self._pcid = 0  # under which it is in use
        self.roots: dict[int, dict[ShadowPage, None]] = {}
        self._unsync: dict[ShadowPage, None] = {}
        self._due: set[ShadowPage] = set()  # roots whose translations were flushed while others were in use
        self.followed = self.unsynced = self.resynced = self.unshadowed = self.reclaimed = 0

    @property
    def unsync_pages(self) -> int:
        """How many pages are out of sync now."""
        return len(self._unsync)

    def release(self, frame: int) -> bool:
        """Let the guest write table `frame` without exits if all its shadows are of leaves; return whether it may."""
        pages = self._tables.pages.by_frame[frame]
        if not all(page.leaves_only for page in pages):
            return False
        for page in pages:
            if not page.unsync:
                page.unsync = True
                self._unsync[page] = None
                self.unsynced += 1
        return True

    def sync_frame(self, frame: int) -> None:
        """Bring the shadows of `frame` in sync: another one of it is about to be made."""
        for page in self._tables.pages.by_frame.get(frame, ()):
            if page.unsync:
                self._sync(page)

    def sync(self, pcid: int | None) -> None:
        """Bring in sync what is reached from the roots of `pcid`, or from all: a flush without an address.

        A root that is not in use waits until it is loaded again.
        """
        self._due.update(self._roots(pcid))
        if self.root in self._due:
            self.sync_root()

    def sync_root(self) -> None:
        """Bring in sync what is reached from the root in use, if a flush asked for it."""
        if self.root is None or self.root not in self._due:
            return
        self._due.discard(self.root)
        for page in list(self._unsync):
            if self._reached_from(page, self.root):
                self._sync(page)

    def sync_address(self, gva: int, pcid: int | None) -> None:
        """Bring the entry that translates `gva` in sync, in the roots of `pcid` or in all: INVLPG.

        Where the entry is reached in one way only, the guest's own flush is all that TLBs need.
        """
        if not self._unsync:
            return
        tables, index = self._tables, gva >> 12 & 511
        for root in self._roots(pcid):
            page: ShadowPage | None = root
            alone = len(self.roots) == 1
            while page is not None and page.role.level > 1:
                page = tables.child(page, gva >> 9 * page.role.level + 3 & 511)
                alone = alone and page is not None and len(page.parents) == 1
            if page is not None and page.unsync and tables.memory.load(page.table + 8 * index) & _P:
                stale = tables.stale
                self._refresh(page, index, tables.pages.entry(page, index))
                tables.stale = stale or (tables.stale and not alone)

    def written(self, frame: int) -> None:
        """Follow a write to guest `frame`, which has just been carried out for an exit."""
        self.followed += 1
        for page in list(self._tables.pages.by_frame.get(frame, ())):
            if not page.unsync:
                self._compare(page)
            if page.leaves_only:
                continue
            page.writes += 1
            if page.writes >= _FLOOD and page is not self.root:
                self.unshadowed += 1
                self.zap(page)

    def join(self, page: ShadowPage) -> None:
        """Bring a page that is about to be linked up to date, and what is below it: flushes may have passed while
        nothing led to it, and by the new way no TLB has cached anything.
        """
        for one in list(self._unsync):
            if self._reached_from(one, page):
                self._compare(one)

    def use(self, root: ShadowPage, pcid: int) -> None:
        """Make `root` the one in use, under `pcid`; what was cached under another says nothing about this one."""
        self.root = root
        if pcid != self._pcid:
            self._pcid = pcid
            self.join(root)
        roots = self.roots.setdefault(pcid, {})
        if root not in roots:
            roots[root] = None
            self._due.add(root)
        self.sync_root()

    def reclaim(self, wanted: int) -> None:
        """Zap the pages least recently used until `wanted` more are allowed."""
        pages = self._tables.pages
        while len(pages) + wanted > pages.limit:
            self.zap(next(page for page in pages if page is not self.root))
            self.reclaimed += 1

    def zap(self, page: ShadowPage) -> None:
        """Take `page` away, wherever it is known."""
        self._unsync.pop(page, None)
        self._due.discard(page)
        for roots in self.roots.values():
            roots.pop(page, None)
        self._tables.zap(page)

    def _sync(self, page: ShadowPage) -> None:
        page.unsync = False
        del self._unsync[page]
        self._tables.write_protect(page.frame)
        self._compare(page)
        self.resynced += 1

    def _compare(self, page: ShadowPage) -> None:
        """Mend every present entry whose guest entry is no longer the one that it was made from."""
        now, present = self._tables.pages.entries(page), self._tables.pages.table(page)
        for index in np.flatnonzero((now != page.row) & (present != 0)).tolist():
            self._refresh(page, index, int(now[index]))

    def _refresh(self, page: ShadowPage, index: int, entry: int) -> None:
        """Follow one guest entry from the one that its shadow was made from to `entry`: mend or drop the shadow.

        Rights are taken here, never given: those come with the fault that asks for them.
        """
        tables, source, mode = self._tables, page.source[index], page.role.mode
        ignored = PTE.ignored_mask if mode >= PagingMode.LEVEL_4 else PAE_PTE.ignored_mask
        if not (entry ^ source) & ~ignored:
            page.source[index] = entry
            return
        mendable = ignored | (_MENDABLE if page.role.nxe else _MENDABLE & ~_XD)
        legacy = mode == PagingMode.BITS_32
        if page.role.level > 1 or legacy or (entry ^ source) & ~mendable:
            tables.drop(page, index)
            return
        where = page.table + 8 * index
        old = tables.memory.load(where)
        access = combine(page.role.access, entry, nxe=page.role.nxe)
        if access & _US and not old & _US:  # it would pass SMEP and SMAP as a supervisor's page
            tables.drop(page, index)
            return
        new = leaf_entry(
            old & _ADDRESS,
            1,
            access | old & _XD,
            writable=bool(old & _RW and entry & _D),
            is_global=bool(entry & _G),
        )
        tables.set_leaf(page, index, tables.mapped_frame(page, index), new, entry)

    def _roots(self, pcid: int | None) -> Iterable[ShadowPage]:
        if pcid is not None:
            return self.roots.get(pcid, {})
        return {page: None for roots in self.roots.values() for page in roots}

    @staticmethod
    def _reached_from(page: ShadowPage, root: ShadowPage) -> bool:
        """Whether `page` is in the hierarchy of `root`: climbed from below, where parents are few."""
        seen, ahead = {page}, [page]
        while ahead:
            one = ahead.pop()
            if one is root:
                return True
            above = [parent for parent in one.parents.values() if parent not in seen]
            seen.update(above)
            ahead += above
        return False
