"""The shadow Mmu's tables: what a #PF exit comes to, and the roots that hardware walks.

A #PF exit is either the guest's own fault, found by the walk of its tables with exactly the guest's settings, or a gap
in the shadow, which is filled. Models KVM's rules (mmu.rst) for write-protected tables, for CR0.WP = 0 and for large
pages. Shadow tables have the 4-level format, of a guest with 5 levels the 5-level one; a processor outside IA-32e mode
would take the page directories below as a PAE hierarchy. Protection keys and shadow stacks are not offered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from quire.arch import PAE_PDPTE, PAE_PTE, PAGE_SHIFT, PDE, PF_ERROR, PTE, Access, PagingMode
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging.context import RESULT_WORDS, Context, Result, Rights, Status, Words
from quire.paging.shadow.coherence import Coherence
from quire.paging.shadow.page import FrameSource, ShadowPage
from quire.paging.shadow.role import ALL_ACCESS, Role, combine
from quire.paging.shadow.tables import ShadowTables, leaf_entry
from quire.paging.tables import Tables

__all__ = ["Resolution", "Shadow", "Verdict"]

_P, _RW, _US, _A, _D, _G, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
_PS, _ADDRESS = PDE.mask("PS"), PTE.mask("addr")
_E_W, _E_U, _E_ID = (PF_ERROR.mask(name) for name in ("W", "U", "ID"))
_DEEPEST = 5  # pages that one fault makes at most
_UNPAGED = 63  # a shift that no page has: without paging the memory map alone decides


class Verdict(Enum):
    """What a #PF exit comes to."""

    FILLED = "filled"  #: the shadow had a gap; the guest goes on
    GUEST_FAULT = "guest fault"  #: the guest's own #PF
    NO_MEMORY = "no memory"  #: the memory map has nothing there, or forbids it
    STEP = "step"  #: one instruction may pass, then :meth:`Shadow.settle`: it writes a table, or needs a passing right


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """Shadow pages now, and how often each thing happened."""

    table_pages: int
    filled: int  #: gaps that a #PF exit filled
    prefetched: int  #: entries filled with them
    guest_faults: int  #: #PF exits that were the guest's own
    writes_followed: int  #: writes to tables in sync, carried out and followed
    unsynced: int  #: page tables left to the guest to write
    resynced: int  #: of them, compared again when the guest flushed
    unshadowed: int  #: tables written again and again, no longer shadowed
    zapped: int
    reclaimed: int  #: of them, for the bound on pages
    roots_built: int
    roots_reused: int
    flushes: int  #: of the TLB, because an entry went or lost rights


class Resolution(NamedTuple):
    """A verdict; `error` is the error code of the guest's #PF, `gpa` where memory is missing."""

    verdict: Verdict
    error: int = 0
    gpa: int = 0


_FILLED, _STEP = Resolution(Verdict.FILLED), Resolution(Verdict.STEP)


class Shadow:
    """The shadow of one guest's tables, whose settings are in context `guest`, over `memory_map` (EPT format).

    `hardware` is the context that the processor walks with. `limit` bounds the shadow pages; `prefetch` is how many
    neighbouring entries, a power of two, a fault fills together. `flush` is called when a TLB may hold what is gone.
    """

    def __init__(
        self,
        memory: HostMemory,
        frames: FrameSource,
        memory_map: Tables,
        guest: Words,
        hardware: Words,
        *,
        limit: int,
        flush: Callable[[], None],
        prefetch: int = 1,
    ) -> None:
        if prefetch < 1 or prefetch > 512 or prefetch & (prefetch - 1):
            raise MisuseError(f"{prefetch} entries cannot be fetched together: give a power of two up to 512")
        self.tables = ShadowTables(memory, frames, limit)
        self.coherence = Coherence(self.tables)
        self.guest, self.hardware, self.memory_map = guest, hardware, memory_map
        self.filled = self.guest_faults = self.prefetched = 0
        self.roots_built = self.roots_reused = self.flushes = 0
        self._memory, self._flush, self._prefetch = memory, flush, prefetch
        self._result = np.zeros(RESULT_WORDS, np.uint64)
        self._lifted: list[tuple[ShadowPage, int, int | None]] = []
        self._near: dict[int, ShadowPage] = {}  # pages of leaves by what they map, while no page is unlinked
        self._near_of = (-1, 0)

    # Roots.

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
        self._finish()
        return before is None or before.role != role

    def _root_key(self) -> tuple[tuple[object, Role], int, Role, int | None]:
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

    # Faults.

    def resolve(self, gva: int, error_code: int) -> Resolution:
        """Return what the #PF exit at `gva` comes to, the shadow filled if that was all. Raises OutOfFrames.

        `error_code` is hardware's; its U, W and ID bits say what was tried.
        """
        access = Access.FETCH if error_code & _E_ID else Access.WRITE if error_code & _E_W else Access.READ
        user = bool(error_code & _E_U)
        status = self.walk(gva, access, user=user, implicit=not user and bool(self.hardware[Context.USER]))
        if status == Status.OK:
            done = self._fill(gva, access)
            if done is _STEP:
                return done
            self.filled += 1
        elif status == Status.PAGE_FAULT:
            self.guest_faults += 1
            done = Resolution(Verdict.GUEST_FAULT, int(self._result[Result.ERROR]))
        else:
            return Resolution(Verdict.NO_MEMORY, int(self._result[Result.ERROR]), self.fault_gpa(gva))
        self._finish()
        return done

    def walk(self, gva: int, access: Access, *, user: bool, implicit: bool) -> int:
        """Walk the guest's tables and the memory map as the guest's own access would; return the status.

        `implicit` marks an access that is a supervisor's by nature, whatever the privilege.
        """
        from quire.paging._kernels import walk

        guest = self.guest
        guest[Context.USER], guest[Context.AC] = user, self.hardware[Context.AC]
        guest[Context.IMPLICIT] = implicit
        return int(walk(self._memory.words, guest, np.uint64(gva), np.uint64(access), self._result))

    @property
    def stepping(self) -> bool:
        """Whether one instruction may pass with more rights than it should have."""
        return bool(self._lifted)

    @property
    def error_code(self) -> int:
        """The error code of the #PF that the last :meth:`walk` ended in."""
        return int(self._result[Result.ERROR])

    def fault_gpa(self, gva: int) -> int:
        """Return the guest-physical address of a walk that the memory map ended."""
        return int(self._result[Result.FAULT_GPA])

    def _fill(self, gva: int, access: Access) -> Resolution:
        """Make the shadow leaf of `gva` for an access that the guest's tables allow, as the last walk found them."""
        result, tables = memoryview(self._result), self.tables  # type: ignore[arg-type]
        guest_shift = result[Result.GUEST_SHIFT] or _UNPAGED
        gpa, entry = result[Result.GPA], result[Result.GUEST_ENTRY]
        frame = gpa >> PAGE_SHIFT
        shift = min(guest_shift, result[Result.HOST_SHIFT])
        guest_level = 3 if guest_shift == 30 else 2 if guest_shift > 12 else 1
        target = 0
        while target != self._level(frame, shift):  # the tables on the way may lie in the large page itself
            target = self._level(frame, shift)
            page = self._page_of_leaves(gva, gpa, guest_level, target, entry)
        index = gva >> 9 * target + 3 & 511
        role = page.role
        rights = result[Result.HOST_ENTRY] & 7
        writable = bool(rights & Rights.WRITE)
        if role.direct:
            left = role.access
        else:
            left = combine(role.access, entry, nxe=role.nxe)
            writable = writable and bool(entry & _D)
        if not rights & Rights.EXECUTE:
            left |= _XD
        frame &= -(1 << 9 * (target - 1))
        lifted = False
        passing = not rights & Rights.READ  # no entry of one dimension allows a fetch and no read
        if access is Access.WRITE and not left & _RW:  # CR0.WP = 0: a supervisor's page (KVM, mmu.rst)
            passing = passing or bool(role.smap and left & _US)
            left = (left | _RW | (_XD if role.smep and left & _US else 0)) & ~_US
        if target == 1 and writable and tables.pages.protects(frame):
            if access is Access.WRITE and left & _RW and not self.coherence.release(frame):
                lifted = True
            writable = lifted or not tables.pages.protects(frame)
        leaf = leaf_entry(
            (result[Result.HPA] >> 9 * target + 3) << 9 * target + 3,
            target,
            left,
            writable=writable,
            is_global=bool(entry & _G),
        )
        tables.set_leaf(page, index, frame, leaf, entry)
        if lifted or passing:
            self._lifted.append((page, index, frame if lifted else None))
            return _STEP
        if self._prefetch > 1 and target == 1:
            self._fill_neighbours(page, index)
        return _FILLED

    def _level(self, frame: int, shift: int) -> int:
        """Return the level of the largest leaf that may map `frame` within pages of `shift` in both dimensions."""
        level = 1 if shift < 21 else 2 if shift < 30 else 3
        while level > 1 and self.tables.pages.tables_in(frame, level):
            level -= 1
        return level

    def _page_of_leaves(self, gva: int, gpa: int, guest_level: int, target: int, entry: int) -> ShadowPage:
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
    ) -> tuple[tuple[object, Role], int, Role, int | None, int]:
        """Return key, guest frame, role, HPA of the guest table and guest entry of what is below entry `index`."""
        role, level = page.role, page.role.level - 1
        below = role._replace(level=level)
        if role.direct:
            frame = page.frame + (index << 9 * level)
            return (frame, below), frame, below, None, 0
        if role.mode < PagingMode.LEVEL_4 and level == 3:  # what hardware has above the guest's tables
            return (page.key, below), page.frame, below, None, 0
        if role.mode == PagingMode.BITS_32 and level == 2:
            below = below._replace(quadrant=index)
            return (page.frame, below), page.frame, below, self._table(page.frame), 0
        if role.mode == PagingMode.PAE and level == 2:
            source = int(self.guest[Context.PDPTE0 + index])
            frame = (source & PAE_PDPTE.mask("addr")) >> PAGE_SHIFT
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

    def _fill_neighbours(self, page: ShadowPage, index: int) -> None:
        """Fill the entries beside `index` that the guest has used before: no flag of the guest's is set for them."""
        tables, role = self.tables, page.role
        first = index & -self._prefetch
        for n in range(first, first + self._prefetch):
            if tables.memory.load(page.table + 8 * n):
                continue
            entry, left, dirty = 0, role.access, True
            frame = page.frame + n
            if not role.direct:
                entry = tables.pages.entry(page, n)
                if entry & (_P | _A) != _P | _A or entry & self._reserved():
                    continue
                frame, dirty = tables.frame_of(page, n, entry), bool(entry & _D)
                left = combine(role.access, entry, nxe=role.nxe)
            place = self.memory_map.lookup(frame << PAGE_SHIFT)
            if place is None or not place.rights & Rights.READ:
                continue
            if not place.rights & Rights.EXECUTE:
                left |= _XD
            writable = dirty and bool(place.rights & Rights.WRITE) and not tables.pages.protects(frame)
            hpa = place.target + ((frame << PAGE_SHIFT) - place.start)
            leaf = leaf_entry(hpa, 1, left, writable=writable, is_global=bool(entry & _G))
            tables.set_leaf(page, n, frame, leaf, entry)
            self.prefetched += 1

    def _reserved(self) -> int:
        """Return the bits that no 4 KiB leaf of the guest may have."""
        state = self.guest
        if state[Context.MODE] == PagingMode.BITS_32:
            return 0
        layout = PAE_PTE if state[Context.MODE] == PagingMode.PAE else PTE
        wide = layout.reserved_mask | int(state[Context.RESERVED])
        return wide if state[Context.NXE] else wide | _XD

    # What the guest does to its tables.

    def settle(self) -> None:
        """The one instruction has passed, or will not: take back what it was given and follow what it wrote."""
        lifted, self._lifted = self._lifted, []
        for page, index, frame in lifted:
            if self.tables.pages.by_table.get(page.table) is not page:
                continue
            if frame is None or page.role.smap:  # a supervisor's page would pass SMAP
                self.tables.drop(page, index)
            else:
                self.tables.forbid_writes(page.table + 8 * index)
        for frame in dict.fromkeys(frame for _, _, frame in lifted if frame is not None):
            self.coherence.written(frame)
        self._finish()

    def write_exits(self, gpa: int) -> bool:
        """Whether a write by the guest's kernel at `gpa` exits now; it may write freely afterwards if it may at all."""
        return self.tables.pages.protects(gpa >> PAGE_SHIFT)

    def release(self, gpa: int) -> bool:
        """Deal with such an exit: let the table go out of sync if it may; return whether it has to be followed."""
        return not self.coherence.release(gpa >> PAGE_SHIFT)

    def written(self, gpa: int, *, count: bool = True) -> None:
        """Follow a write at `gpa` that has just been carried out for the guest."""
        if gpa >> PAGE_SHIFT in self.tables.pages.by_frame:
            self.coherence.written(gpa >> PAGE_SHIFT, count=count)
            self._finish()

    def forget_frame(self, gpa: int) -> None:
        """Somebody is about to write guest frame `gpa` in a way that is not followed: nothing may depend on it."""
        pages = self.tables.pages.by_frame.get(gpa >> PAGE_SHIFT)
        if pages is not None:
            for page in list(pages):
                self._leave(page)
            self._finish()

    def sync(self, pcid: int | None) -> None:
        """The guest flushed all translations of `pcid`, or of every one."""
        self.coherence.sync(pcid)
        self._finish()

    def sync_address(self, gva: int, pcid: int | None) -> None:
        """The guest flushed the translations of `gva`."""
        self.coherence.sync_address(gva, pcid)
        self._finish()

    # What the hypervisor does.

    def drop_range(self, gpa: int, size: int) -> None:
        """The memory map is about to change for `size` bytes from `gpa`."""
        frames = gpa >> PAGE_SHIFT, size >> PAGE_SHIFT
        self.tables.drop_leaves(*frames)
        for page in self.tables.shadowing(*frames):
            self._leave(page)
            self.tables.pages.detach(page)
        self._finish()

    def zap(self, *, frame: int | None = None, role: Role | None = None) -> int:
        """Zap the shadow pages of guest `frame`, of `role`, or all; return how many. The root in use is emptied."""
        found = [
            page
            for page in self.tables.pages
            if (frame is None or page.frame == frame) and (role is None or page.role == role)
        ]
        for page in found:
            self._leave(page)
        self._finish()
        return len(found)

    def close(self) -> None:
        """Free every page."""
        self.coherence.root = None
        self.zap()

    def _leave(self, page: ShadowPage) -> None:
        """Zap `page`, or empty it while hardware walks from it."""
        if page is self.coherence.root:
            self.tables.empty(page)
        else:
            self.coherence.zap(page)

    def counts(self) -> ShadowCounts:
        """Return what there is now and what happened so far."""
        tables, coherence = self.tables, self.coherence
        return ShadowCounts(
            table_pages=len(tables.pages),
            filled=self.filled,
            prefetched=self.prefetched,
            guest_faults=self.guest_faults,
            writes_followed=coherence.followed,
            unsynced=coherence.unsynced,
            resynced=coherence.resynced,
            unshadowed=coherence.unshadowed,
            zapped=tables.zapped,
            reclaimed=coherence.reclaimed,
            roots_built=self.roots_built,
            roots_reused=self.roots_reused,
            flushes=self.flushes,
        )

    def _finish(self) -> None:
        """Have TLBs flushed if they may hold what is gone."""
        if self.tables.stale:
            self.tables.stale = False
            self.flushes += 1
            self._flush()
