"""The Mmus: native (one dimension) and ept (two). Same page-table, TLB and cache operations, same guest results.

Native puts the guest's tables and pages straight into host frames: guest-physical is host-physical. Ept gives the
guest its own guest-physical space; a frame is allocated and mapped when an EPT violation asks for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from quire.arch import (
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PAGE_SHIFT,
    PAGE_SIZE,
    Access,
    ExitReason,
    MemoryType,
    ep4ta,
)
from quire.errors import MisuseError
from quire.hypervisor.host import Host
from quire.memory import Fill, OutOfFrames, Owner, OwnerKind, Pool
from quire.paging import (
    EPT_FORMAT,
    GUEST_FORMAT,
    RESULT_WORDS,
    Context,
    Mapping,
    Result,
    Rights,
    Tables,
    WalkRecord,
    new_context,
    reference_walk,
)
from quire.tlb import AddressSpace, Operation, Tlb
from quire.vcpu import Exit, Vcpu

__all__ = ["EptMmu", "NativeMmu", "PagedMmu"]

#: Guest-physical memory of a guest under EPT begins here, above the legacy hole, so that GPA 0 is never valid.
_FIRST_GFN = 0x100
_TABLE = Owner(OwnerKind.GUEST_TABLE, "guest tables")
_PAGE = Owner(OwnerKind.GUEST_PAGE, "guest pages")
_EPT_TABLE = Owner(OwnerKind.EPT_TABLE, "EPT")
_ALL_RIGHTS = Rights.READ | Rights.WRITE | Rights.EXECUTE
_ZERO = Fill.ZERO


class PagedMmu(ABC):
    """What the two share: guest tables in guest frames, the TLB, translation by the compiled walk.

    `on_exit` deals with an EPT violation that a software access meets; `forget` tells the Cpu.
    """

    name: str

    def __init__(self, host: Host, vcpu: Vcpu, frames: Pool) -> None:
        self.host = host
        self.vcpu = vcpu
        self.frames = frames
        self.context = new_context(vcpu.profile, host.memory.size)
        self.on_exit: Callable[[Exit], None] = _nobody
        self.forget: Callable[[int | None], None] = lambda gva: None
        self.tlb: Tlb | None = None
        self.pcid = 0  #: current process-context identifier
        self.table_pages: dict[int, int] = {}  #: HPAs of guest tables by frame
        self.invalidations: dict[Operation, int] = {}  #: how often each operation was executed
        self._result = np.zeros(RESULT_WORDS, np.uint64)

    def _make_guest_tables(self) -> None:
        self.tables = Tables(_GuestFrames(self), GUEST_FORMAT, self.changed)
        self.context[Context.CR3] = self.tables.root
        self.vcpu.vmcs.write("guest_cr3", self.tables.root)

    def changed(self) -> None:
        """A mapping of either dimension goes or changes: remembered walks are stale."""
        self.context[Context.VERSION] += np.uint64(1)
        self.table_pages.clear()

    @property
    @abstractmethod
    def space(self) -> AddressSpace:
        """The tags of the guest's translations."""

    @abstractmethod
    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of guest-physical `gpa`, making it present first if need be."""

    @abstractmethod
    def allocate(self, size: int) -> int | None:
        """Return the GPA of `size` zeroed, aligned bytes, or None when guest memory is exhausted."""

    @abstractmethod
    def resident_bytes(self) -> int:
        """Return how much guest memory is backed by host frames, in bytes."""

    def free(self, gpa: int, size: int) -> None:
        """Take back what :meth:`allocate` returned."""
        self.frames.free(gpa >> PAGE_SHIFT, _order(size), _PAGE)

    def divide(self, gpa: int, size: int) -> None:
        """Turn an allocated block into single frames, each to be freed alone."""
        self.frames.divide(gpa >> PAGE_SHIFT, _order(size), _PAGE)

    def map(self, gva: int, gpa: int, size: int, rights: Rights) -> None:
        """Map a guest page. No invalidation: a not-present entry is never cached (SDM 3A §4.10.4.3)."""
        self.tables.map(gva, gpa, size, rights)

    def unmap(self, gva: int) -> Mapping:
        """Remove a guest page and invalidate its translations."""
        mapping = self.tables.unmap(gva)
        self.invalidate(gva)
        return mapping

    def protect(self, gva: int, rights: Rights) -> None:
        """Change a guest page's rights and invalidate its translations."""
        self.tables.protect(gva, rights)
        self.invalidate(gva)

    def split(self, gva: int) -> None:
        """Split a large guest page and its frames into single ones; translations change their size."""
        mapping = self.tables.lookup(gva)
        self.tables.split(gva)
        if mapping is not None:
            self.divide(mapping.target, mapping.size)
        self.invalidate(gva)

    def lookup(self, gva: int) -> Mapping | None:
        """Return the guest page that maps `gva`, or None."""
        return self.tables.lookup(gva)

    def walk(self, gva: int, access: Access, *, user: bool = True) -> WalkRecord:
        """Return the explained walk of `gva`, without side effects."""
        context = self.context.copy()
        context[Context.UPDATE] = 0
        context[Context.USER] = int(user)
        return reference_walk(self.host.memory.words, context, gva, access)

    def translate(self, gva: int, access: Access) -> tuple[int, int]:
        """Translate a user access with accessed and dirty updates; return (status, HPA, or error code).

        On an EPT violation ERROR is the qualification and :attr:`fault_gpa` the address.
        """
        from quire.paging._kernels import walk

        result = self._result
        status = walk(self.host.memory.words, self.context, np.uint64(gva), np.uint64(access), result)
        return status, int(result[Result.ERROR if status else Result.HPA])

    @property
    def fault_gpa(self) -> int:
        """The guest-physical address of the last failed :meth:`translate`."""
        return int(self._result[Result.FAULT_GPA])

    def enter_tlb(self, tlb: Tlb) -> None:
        """Make `tlb` the one that caches this guest's translations."""
        self.tlb = tlb
        tlb.enter(self.space)

    def invalidate(self, gva: int | None) -> None:
        """INVLPG of one page, or MOV to CR3: all of the current PCID but global pages."""
        self.forget(gva)
        self.apply(Operation.MOV_CR3 if gva is None else Operation.INVLPG, gva=gva or 0)

    def apply(self, operation: Operation, *, pcid: int | None = None, gva: int = 0) -> None:
        """Apply `operation` to the modelled TLB: of `pcid`, by default the current one, and the page of `gva`."""
        self.invalidations[operation] = self.invalidations.get(operation, 0) + 1
        if self.tlb is None or not self.tlb.state[0]:
            return  # nothing was ever looked up
        self.tlb.invalidate(
            operation, vpid=self.space.vpid, pcid=self.pcid if pcid is None else pcid, gva=gva
        )

    def close(self) -> None:
        """Free the guest's tables."""
        self.tables.close()


class NativeMmu(PagedMmu):
    """One dimension: guest frames are frames of the host's pool."""

    name = "native"

    def __init__(self, host: Host, vcpu: Vcpu, guest_bytes: int) -> None:
        super().__init__(host, vcpu, host.pool)
        self._limit = guest_bytes >> PAGE_SHIFT
        self._make_guest_tables()

    @property
    def space(self) -> AddressSpace:
        """Linear mappings of this vCPU."""
        return AddressSpace(self.vcpu.vpid, self.pcid, None)

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return `gpa`: there is no second dimension."""
        del write
        return gpa

    def allocate(self, size: int) -> int | None:
        """Return the address of zeroed host frames, None when the guest has all that it may."""
        order = _order(size)
        if self._used() + (1 << order) > self._limit:
            return None
        try:
            return self.frames.allocate(order, _PAGE, Fill.ZERO) << PAGE_SHIFT
        except OutOfFrames:
            return None

    def resident_bytes(self) -> int:
        """Every guest page is a host frame."""
        return self._used() << PAGE_SHIFT

    def _used(self) -> int:
        return self.frames.frames_of(OwnerKind.GUEST_PAGE) + self.frames.frames_of(OwnerKind.GUEST_TABLE)


class EptMmu(PagedMmu):
    """Two dimensions: guest frames are numbers of the guest's own pool, backed on demand through EPT."""

    name = "ept"

    def __init__(self, host: Host, vcpu: Vcpu, guest_bytes: int, page_size: int, ept: Tables) -> None:
        count = guest_bytes >> PAGE_SHIFT
        super().__init__(host, vcpu, Pool(_FIRST_GFN, count - _FIRST_GFN))
        self.guest_bytes = guest_bytes
        self.page_size = page_size
        self.ept = ept
        ept.on_change = self.changed
        self._blocks: list[int] = []
        self._used_before = np.zeros(count, np.uint8)
        self._used = self._used_before.data
        eptp = EPTP.encode(MT=MemoryType.WB, walk_length=3, AD=1, addr=ept.root)
        self._ep4ta = ep4ta(eptp)
        self.context[Context.EPTP] = eptp
        vcpu.enable_ept(eptp)

    def start(self) -> None:
        """Build the guest's tables: the first guest-physical accesses, so exits must be dealt with by now."""
        self._make_guest_tables()

    @property
    def space(self) -> AddressSpace:
        """Combined mappings of this vCPU and this EPT hierarchy."""
        return AddressSpace(self.vcpu.vpid, self.pcid, self._ep4ta)

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of `gpa`; a hole is an EPT violation, dealt with as any other."""
        hpa = self.ept.target(gpa)
        if hpa is None:
            said = EPT_VIOLATION_QUALIFICATION.encode(R=not write, W=write)
            self.on_exit(Exit(ExitReason.EPT_VIOLATION, said, gpa))
            hpa = self.ept.target(gpa)
            if hpa is None:
                raise MisuseError(
                    f"The EPT violation handler left GPA {gpa:#x} unmapped: call hypervisor.back(gpa) in it"
                )
        return hpa

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; return False when the guest has no memory there.

        Raises OutOfFrames when the host has none left.
        """
        if not 0 <= gpa < self.guest_bytes:
            return False
        size = self.page_size
        start = gpa & ~(size - 1)
        hfn = self.host.pool.allocate(_order(size), _PAGE, _ZERO)
        try:
            self.ept.map(start, hfn << PAGE_SHIFT, size, _ALL_RIGHTS)
        except BaseException:
            self.host.pool.free(hfn, _order(size), _PAGE)
            raise
        self._blocks.append(hfn)
        return True

    def allocate(self, size: int) -> int | None:
        """Return guest-physical memory that reads as zero; frames are backed when they are touched."""
        order = _order(size)
        try:
            gfn = self.frames.allocate(order, _PAGE)
        except OutOfFrames:
            return None
        if not order and not self._used[gfn]:
            self._used[gfn] = 1
            return gfn << PAGE_SHIFT
        frames = self._used_before[gfn : gfn + (1 << order)]
        if frames.any():
            for n in range(1 << order):
                if frames[n]:
                    hpa = self.reach((gfn + n) << PAGE_SHIFT, write=True)
                    self.host.memory.fill(hpa >> PAGE_SHIFT, 1, 0)
        frames[:] = 1
        return gfn << PAGE_SHIFT

    def resident_bytes(self) -> int:
        """Host pages given so far."""
        return len(self._blocks) * self.page_size

    def close(self) -> None:
        """Free the guest's tables and every host page behind guest memory; EPT itself is its maker's."""
        if hasattr(self, "tables"):
            super().close()
        for mapping in list(self.ept.mappings()):
            self.ept.unmap(mapping.start)
        for hfn in self._blocks:
            self.host.pool.free(hfn, _order(self.page_size), _PAGE)
        self._blocks.clear()


class EptFrames:
    """Where EPT tables live: frames of the host's pool. Addresses are HPAs."""

    def __init__(self, host: Host) -> None:
        self.load = host.memory.load
        self.store = host.memory.store
        self._pool = host.pool

    def allocate_table(self) -> int:
        """Return the HPA of a zeroed frame."""
        return self._pool.allocate(0, _EPT_TABLE, Fill.ZERO) << PAGE_SHIFT

    def free_table(self, address: int) -> None:
        """Take the frame back."""
        self._pool.free(address >> PAGE_SHIFT, 0, _EPT_TABLE)


def make_ept(host: Host) -> Tables:
    """Return an empty EPT hierarchy in frames of `host`."""
    return Tables(EptFrames(host), EPT_FORMAT)


class _GuestFrames:
    """Where guest tables live: guest-physical frames, reached as the guest's kernel reaches them."""

    def __init__(self, mmu: PagedMmu) -> None:
        self._mmu = mmu
        self._memory = mmu.host.memory
        self._pages = mmu.table_pages

    def load(self, address: int) -> int:
        hpa = self._pages.get(address >> PAGE_SHIFT)
        if hpa is None:
            hpa = self._find(address, write=False)
        return self._memory.load(hpa | address & PAGE_SIZE - 1)

    def store(self, address: int, entry: int) -> None:
        hpa = self._pages.get(address >> PAGE_SHIFT)
        if hpa is None:
            hpa = self._find(address, write=True)
        self._memory.store(hpa | address & PAGE_SIZE - 1, entry)

    def _find(self, address: int, *, write: bool) -> int:
        hpa = self._mmu.reach(address, write=write) & -PAGE_SIZE
        self._pages[address >> PAGE_SHIFT] = hpa
        return hpa

    def allocate_table(self) -> int:
        gfn = self._mmu.frames.allocate(0, _TABLE)
        hpa = self._mmu.reach(gfn << PAGE_SHIFT, write=True)
        self._memory.fill(hpa >> PAGE_SHIFT, 1, 0)
        return gfn << PAGE_SHIFT

    def free_table(self, address: int) -> None:
        self._mmu.frames.free(address >> PAGE_SHIFT, 0, _TABLE)


def _order(size: int) -> int:
    return 0 if size == PAGE_SIZE else (size >> PAGE_SHIFT).bit_length() - 1


def _nobody(stop: Exit) -> None:
    raise MisuseError(f"{stop.reason.name} with no hypervisor to deal with it: set on_exit first")
