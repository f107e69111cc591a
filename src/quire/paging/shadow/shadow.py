"""The shadow Mmu's tables: what a #PF exit comes to, and the roots that hardware walks.

A #PF exit is either the guest's own fault, found by the walk of its tables with exactly the guest's settings, or a gap
in the shadow, which is filled. Models KVM's rules (mmu.rst) for write-protected tables, for CR0.WP = 0 and for large
pages. Protection keys and shadow stacks are not offered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from quire.arch import PAE_PTE, PAGE_SHIFT, PF_ERROR, PTE, Access, PagingMode
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging.context import RESULT_WORDS, Context, Result, Rights, Status, Words
from quire.paging.shadow.coherence import Coherence
from quire.paging.shadow.devices import DeviceRange
from quire.paging.shadow.hierarchy import Hierarchy
from quire.paging.shadow.page import FrameSource, ShadowPage
from quire.paging.shadow.role import Role, combine
from quire.paging.shadow.tables import ShadowTables, leaf_entry
from quire.paging.tables import Tables

__all__ = ["Resolution", "Shadow", "Verdict"]

_P, _RW, _US, _A, _D, _G, _XD = (PTE.mask(name) for name in ("P", "RW", "US", "A", "D", "G", "XD"))
_READ, _WRITE, _FETCH = Access.READ, Access.WRITE, Access.FETCH
_KINDS = {access: np.uint64(access) for access in Access}
_OK, _PAGE_FAULT = Status.OK, Status.PAGE_FAULT
_USER, _AC, _IMPLICIT = int(Context.USER), int(Context.AC), int(Context.IMPLICIT)
_HPA, _GPA, _GUEST_SHIFT, _HOST_SHIFT, _ERROR, _FAULT_GPA, _GUEST_ENTRY, _HOST_ENTRY = (
    int(field)
    for field in (
        Result.HPA,
        Result.GPA,
        Result.GUEST_SHIFT,
        Result.HOST_SHIFT,
        Result.ERROR,
        Result.FAULT_GPA,
        Result.GUEST_ENTRY,
        Result.HOST_ENTRY,
    )
)
_MAY_READ, _MAY_WRITE, _MAY_EXECUTE = int(Rights.READ), int(Rights.WRITE), int(Rights.EXECUTE)
_E_W, _E_U, _E_ID = (PF_ERROR.mask(name) for name in ("W", "U", "ID"))
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
        from quire.paging._kernels import walk  # compiled: only who runs a guest pays for it

        if prefetch < 1 or prefetch > 512 or prefetch & (prefetch - 1):
            raise MisuseError(f"{prefetch} entries cannot be fetched together: give a power of two up to 512")
        self.tables = ShadowTables(memory, frames, limit)
        self.coherence = Coherence(self.tables)
        self.hierarchy = Hierarchy(self.tables, self.coherence, memory_map, guest, hardware)
        self.guest, self.hardware, self.memory_map = guest, hardware, memory_map
        self.filled = self.guest_faults = self.prefetched = 0
        self.flushes = 0
        self.devices: DeviceRange | None = None  #: of a guest that has some
        self._words, self._flush, self._prefetch = memory.words, flush, prefetch
        self._walk = walk
        self._result = np.zeros(RESULT_WORDS, np.uint64)
        # The same arrays without NumPy's scalars.
        self._found = memoryview(self._result)  # type: ignore[arg-type]
        self._guest = memoryview(guest)  # type: ignore[arg-type]
        self._hardware = memoryview(hardware)  # type: ignore[arg-type]
        self._lifted: list[tuple[ShadowPage, int, int | None]] = []

    def load(self, pcid: int) -> bool:
        """Make hardware walk the shadow of the guest's current root; return whether the settings differ from before.

        Raises OutOfFrames when there is no frame for a root.
        """
        changed = self.hierarchy.load(pcid)
        self._finish()
        return changed

    def resolve(self, gva: int, error_code: int) -> Resolution:
        """Return what the #PF exit at `gva` comes to, the shadow filled if that was all. Raises OutOfFrames.

        `error_code` is hardware's; its U, W and ID bits say what was tried.
        """
        access = _FETCH if error_code & _E_ID else _WRITE if error_code & _E_W else _READ
        user = error_code & _E_U != 0
        status = self.walk(gva, access, user=user, implicit=not user and self._hardware[_USER] != 0)
        reads_or_writes = status != _PAGE_FAULT and access is not _FETCH  # no device has instructions
        if status == _OK or (reads_or_writes and self._meets_device()):
            done = self._fill(gva, access)
            if done is _STEP:
                return done
            self.filled += 1
        elif status == _PAGE_FAULT:
            self.guest_faults += 1
            done = Resolution(Verdict.GUEST_FAULT, self._found[_ERROR])
        else:
            return Resolution(Verdict.NO_MEMORY, self._found[_ERROR], self._found[_FAULT_GPA])
        self._finish()
        return done

    def _meets_device(self) -> bool:
        """Whether the last walk ended at a device; if so, have its result say where the marked leaf is to point."""
        found, gpa = self._found, self._found[_FAULT_GPA]
        target = None if self.devices is None else self.devices.target(gpa)
        if target is None or found[_GPA] != gpa:  # a table that lies there is none
            return False
        found[_HPA], found[_HOST_SHIFT], found[_HOST_ENTRY] = target, PAGE_SHIFT, _MAY_READ | _MAY_WRITE
        return True

    def walk(self, gva: int, access: Access, *, user: bool, implicit: bool) -> int:
        """Walk the guest's tables and the memory map as the guest's own access would; return the status.

        `implicit` marks an access that is a supervisor's by nature, whatever the privilege.
        """
        state = self._guest
        state[_USER], state[_AC], state[_IMPLICIT] = user, self._hardware[_AC], implicit
        found: int = self._walk(self._words, self.guest, np.uint64(gva), _KINDS[access], self._result)
        return found

    @property
    def stepping(self) -> bool:
        """Whether one instruction may pass with more rights than it should have."""
        return bool(self._lifted)

    @property
    def error_code(self) -> int:
        """The error code of the #PF that the last :meth:`walk` ended in."""
        return int(self._result[_ERROR])

    def _fill(self, gva: int, access: Access) -> Resolution:
        """Make the shadow leaf of `gva` for an access that the guest's tables allow, as the last walk found them."""
        found, tables = self._found, self.tables
        guest_shift, entry, rights = found[_GUEST_SHIFT] or _UNPAGED, found[_GUEST_ENTRY], found[_HOST_ENTRY]
        frame = found[_GPA] >> PAGE_SHIFT
        shift = min(guest_shift, found[_HOST_SHIFT])
        guest_level = 3 if guest_shift == 30 else 2 if guest_shift > 12 else 1
        target = 0
        while target != self._level(frame, shift):  # the tables on the way may lie in the large page itself
            target = self._level(frame, shift)
            page = self.hierarchy.page_of_leaves(gva, guest_level, target, entry)
        role, writable = page.role, rights & _MAY_WRITE != 0
        if role.direct:
            left = role.access
        else:
            left = combine(role.access, entry, nxe=role.nxe)
            writable = writable and entry & _D != 0
        if not rights & _MAY_EXECUTE:
            left |= _XD
        frame &= -(1 << 9 * (target - 1))
        lifted = False
        passing = not rights & _MAY_READ  # no entry of one dimension allows a fetch and no read
        if access is _WRITE and not left & _RW:  # CR0.WP = 0: a supervisor's page for now (KVM, mmu.rst)
            passing = passing or (role.smap and left & _US != 0)
            left = (left | _RW | (_XD if role.smep and left & _US else 0)) & ~_US
        if target == 1 and writable and tables.pages.protects(frame):
            lifted = access is _WRITE and left & _RW != 0 and not self.coherence.release(frame)
            writable = lifted or not tables.pages.protects(frame)
        hpa = found[_HPA] & -(8 << 9 * target)
        leaf = leaf_entry(hpa, target, left, writable=writable, is_global=entry & _G != 0)
        index = gva >> 9 * target + 3 & 511
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

    def written(self, gpa: int) -> None:
        """Follow a write at `gpa` that has just been carried out for the guest."""
        if gpa >> PAGE_SHIFT in self.tables.pages.by_frame:
            self.coherence.written(gpa >> PAGE_SHIFT)
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
            roots_built=self.hierarchy.roots_built,
            roots_reused=self.hierarchy.roots_reused,
            flushes=self.flushes,
        )

    def _finish(self) -> None:
        """Have TLBs flushed if they may hold what is gone."""
        if self.tables.stale:
            self.tables.stale = False
            self.flushes += 1
            self._flush()
