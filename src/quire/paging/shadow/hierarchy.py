"""The hierarchy that hardware walks: a root for each of the guest's, and on the way down the shadow of each table.

Shadow tables have the 4-level format, of a guest with 5 levels the 5-level one. Above the tables of a guest in a legacy
mode are two levels of ours; a processor outside IA-32e mode would take the page directories below them as a PAE
hierarchy. A root found again costs no rebuild.
"""

from quire.arch import PAE_PDPTE, PAGE_SHIFT, PTE, PagingMode
from quire.paging.context import Context, Words
from quire.paging.shadow.coherence import Coherence
from quire.paging.shadow.page import ShadowPage
from quire.paging.shadow.role import ALL_ACCESS, Role, combine
from quire.paging.shadow.tables import ShadowTables
from quire.paging.tables import Tables

__all__ = ["Hierarchy"]

_RW, _D, _ADDRESS = PTE.mask("RW"), PTE.mask("D"), PTE.mask("addr")
_PDPTE_ADDRESS = PAE_PDPTE.mask("addr")
_DEEPEST = 5  # pages that one fault makes at most

#: What a shadow page is found by: the guest frame, or the registers that stand for one, and the role.
Key = tuple[object, Role]


class Hierarchy:
    """Roots and pages for the guest whose settings are in `guest`; `hardware` is told the root."""

    def __init__(
        self, tables: ShadowTables, coherence: Coherence, memory_map: Tables, guest: Words, hardware: Words
    ) -> None:
        self.tables, self.coherence, self.memory_map = tables, coherence, memory_map
        self.guest, self.hardware = guest, hardware
        self.roots_built = self.roots_reused = 0
        self._near: dict[int, ShadowPage] = {}  # pages of leaves by what they map, while no page is unlinked
        self._near_of = (-1, 0)

    def load(self, pcid: int) -> bool:
        """Make hardware walk the shadow of the guest's current root; return whether the settings differ from before.

        Raises OutOfFrames when there is no frame for a root.
        """
        state = self.guest
        key, frame, role, guest = self._root_key()
        root = self.tables.pages.find(key)
        before = self.coherence.root
        if root is None:
            self.coherence.reclaim(1)
            if guest is not None:
                self.coherence.sync_frame(frame)
            root = self.tables.new_page(key, frame, role, guest)
            self.roots_built += 1
        elif root is not before:
            self.roots_reused += 1
        self.tables.pages.touch(root)
        self.coherence.use(root, pcid)
        hardware = self.hardware
        hardware[Context.CR3] = root.table
        hardware[Context.MODE] = PagingMode.LEVEL_5 if role.mode == PagingMode.LEVEL_5 else PagingMode.LEVEL_4
        for field in (Context.CD, Context.PAT):
            hardware[field] = state[field]
        for field in (Context.SMEP, Context.SMAP):  # without paging, the guest has neither
            hardware[field] = state[field] if role.mode else 0
        return before is None or before.role != role

    def _root_key(self) -> tuple[Key, int, Role, int | None]:
        """Return key, guest frame, role and the HPA of the guest table, None if it has none, of the current root."""
        state = self.guest
        mode = PagingMode(int(state[Context.MODE]))
        wp = bool(state[Context.WP]) or mode is PagingMode.NONE
        role = Role(
            mode=mode,
            level=5 if mode is PagingMode.LEVEL_5 else 4,
            access=ALL_ACCESS,
            wp=wp,
            nxe=bool(state[Context.NXE]) and mode not in (PagingMode.BITS_32, PagingMode.NONE),
            smep=not wp and bool(state[Context.SMEP]),
            smap=not wp and bool(state[Context.SMAP]),
            direct=mode is PagingMode.NONE,
            pse=mode is PagingMode.BITS_32 and bool(state[Context.PSE]),
        )
        frame = (int(state[Context.CR3]) & _ADDRESS) >> PAGE_SHIFT
        if mode is PagingMode.PAE:
            registers = tuple(int(state[Context.PDPTE0 + n]) for n in range(4))
            return (registers, role), frame, role, None
        if mode in (PagingMode.BITS_32, PagingMode.NONE):
            frame = 0 if mode is PagingMode.NONE else frame
            return (frame, role), frame, role, None
        # A root that the memory map does not have yet, or never will: its shadow is empty until a walk finds it.
        return (frame, role), frame, role, self.memory_map.target(frame << PAGE_SHIFT)

    def page_of_leaves(self, gva: int, guest_level: int, target: int, entry: int) -> ShadowPage:
        """Return the page of `target` level that translates `gva`, every page on the way to it made and linked."""
        root = self.coherence.root
        assert root is not None, "a root is loaded before the guest runs"
        now = (self.tables.generation, root.table)
        if self._near_of != now:
            self._near.clear()
            self._near_of = now
        if target == 1:
            near = self._near.get(gva >> 21)
            if near is not None:
                near.writes = 0
                return near
        self.coherence.reclaim(_DEEPEST)
        if root.guest is None and root.role.mode >= PagingMode.LEVEL_4:
            self.coherence.sync_frame(root.frame)
            self.tables.pages.attach(root, self._table(root.frame))
            self.tables.write_protect(root.frame)
        page = root
        while page.role.level > target:
            large = not page.role.direct and page.role.mode and page.role.level == guest_level
            page = self._below(page, gva >> 9 * page.role.level + 3 & 511, entry if large else None)
            self.tables.pages.touch(page)
        if target == 1 and not page.role.direct and self._near_of == (self.tables.generation, root.table):
            self._near[gva >> 21] = page
        return page

    def _below(self, page: ShadowPage, index: int, leaf: int | None) -> ShadowPage:
        """Return the page that entry `index` of `page` leads to; `leaf` is the guest's large leaf, if it ends there."""
        tables = self.tables
        key, frame, role, guest, source = self._child(page, index, leaf)
        child = tables.child(page, index)
        if child is not None and child.key == key:
            return child
        tables.drop(page, index)
        known = tables.pages.find(key)
        if known is None:
            if guest is not None:
                self.coherence.sync_frame(frame)
            known = tables.new_page(key, frame, role, guest)
        else:
            self.coherence.join(known)
        tables.link(page, index, known, source)
        return known

    def _child(
        self, page: ShadowPage, index: int, leaf: int | None
    ) -> tuple[Key, int, Role, int | None, int]:
        """Return key, guest frame, role, HPA of the guest table and guest entry of what is below entry `index`."""
        role, level = page.role, page.role.level - 1
        below = role._replace(level=level)
        if role.direct:
            frame = page.frame + (index << 9 * level)
            return (frame, below), frame, below, None, 0
        if (
            role.mode < PagingMode.LEVEL_4 and level == 3
        ):  # the hierarchy that hardware has above the guest's tables
            return (page.key, below), page.frame, below, None, 0
        if role.mode == PagingMode.BITS_32 and level == 2:
            below = below._replace(quadrant=index)
            return (page.frame, below), page.frame, below, self._table(page.frame), 0
        if role.mode == PagingMode.PAE and level == 2:
            source = int(self.guest[Context.PDPTE0 + index])
            frame = (source & _PDPTE_ADDRESS) >> PAGE_SHIFT
            return (frame, below), frame, below, self._table(frame), source
        source = self.tables.pages.entry(page, index)
        access = combine(role.access, source, nxe=role.nxe)
        if leaf is not None:
            frame = self.tables.frame_of(page, index, leaf)
            below = below._replace(access=access if leaf & _D else access & ~_RW, direct=True, quadrant=0)
            return (frame, below), frame, below, None, leaf
        quadrant = index & 1 if role.mode == PagingMode.BITS_32 else 0
        below = below._replace(access=access, quadrant=quadrant)
        frame = (source & _ADDRESS) >> PAGE_SHIFT
        return (frame, below), frame, below, self._table(frame), source

    def _table(self, frame: int) -> int:
        """Return the HPA of the guest table in `frame`, which a walk has just read."""
        hpa = self.memory_map.target(frame << PAGE_SHIFT)
        assert hpa is not None, "a table that was walked is in the memory map"
        return hpa
