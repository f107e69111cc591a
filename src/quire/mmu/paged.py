"""What every Mmu does, and native, the one of one dimension: guest-physical is host-physical.

Same page-table, TLB and cache operations under each Mmu, same guest results.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from quire.arch import CR4, PAGE_SHIFT, PAGE_SIZE, Access
from quire.errors import MisuseError
from quire.memory import Fill, OutOfFrames, Owner, OwnerKind, Pool
from quire.memory.numa import NodePools
from quire.mmu.abilities import Mapped, Shadowed, WriteLog
from quire.mmu.guest_frames import GuestFrames
from quire.mmu.host import Host
from quire.mmu.placement import Placement
from quire.mmu.regions import MemoryRegions
from quire.paging import (
    GUEST_FORMAT,
    RESULT_WORDS,
    Context,
    Mapping,
    Result,
    Rights,
    TableMemory,
    Tables,
    WalkRecord,
    new_context,
    reference_walk,
)
from quire.tlb import AddressSpace, Operation, Tlb
from quire.vcpu import Exit, VmxState
from quire.vcpu.vmcs import word_of

__all__ = ["NativeMmu", "PagedMmu", "WriteLog", "block_order"]

_TABLE = Owner(OwnerKind.GUEST_TABLE, "guest tables")
_PCIDE = CR4.mask("PCIDE")
_GUEST_CR3 = word_of("guest_cr3")
_PAGE = Owner(OwnerKind.GUEST_PAGE, "guest pages")


class PagedMmu(ABC):
    """What all share: guest tables in guest frames, the TLB, translation by the compiled walk.

    `context` is what hardware walks with, `guest_context` what the guest set: they differ where hardware does not walk
    the guest's tables. `on_exit` deals with an exit that a software access meets; `forget` tells the Cpu.
    """

    name: str
    tables: Tables  #: the guest's that are loaded, where they are Quire's to build
    page_faults_exit = False  #: whether every #PF leaves the guest
    builds_tables = True  #: whether the guest's tables are Quire's to build: it plays the guest's kernel

    def __init__(
        self, host: Host, vmx: VmxState, frames: Pool | NodePools, placement: Placement | None = None
    ) -> None:
        self.host = host
        self.placement = Placement(host, None) if placement is None else placement
        self.vmx = vmx
        self.frames = frames
        self.context = self.guest_context = new_context(vmx.profile, host.memory.size)
        self.on_exit: Callable[[Exit], None] = _nobody
        self.forget: Callable[[int | None], None] = lambda gva: None
        self.tlb: Tlb | None = None
        self.log: WriteLog | None = None  #: while the guest's writes are logged
        #: Has writes of a memory of tables noted, while flushes are checked.
        self.logged: Callable[[TableMemory], TableMemory] | None = None
        self.regions: MemoryRegions | None = None  #: of a machine guest that was given some
        self.pcid = 0  #: current process-context identifier
        self.table_pages: dict[int, int] = {}  #: HPAs of guest tables by frame
        self.invalidations: dict[Operation, int] = {}  #: how often each operation was executed
        self._result = np.zeros(RESULT_WORDS, np.uint64)
        self._sharers: list[PagedMmu] = [self]  # of all vCPUs of the guest

    @property
    def mapped(self) -> Mapped | None:
        """This Mmu, if a map says where guest-physical memory is; else it is host memory."""
        return None

    @property
    def shadowed(self) -> Shadowed | None:
        """This Mmu, if it keeps shadow tables."""
        return None

    @property
    def plain(self) -> bool:
        """Whether an entry of the guest's tables may be written as any memory is: nobody has to hear of it."""
        return self.shadowed is None and self.log is None

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; return False when the guest has no memory there."""
        raise MisuseError(
            f"Memory of a guest under {self.name} is there from the start: nothing to back at GPA {gpa:#x}"
        )

    def share(self, first: "PagedMmu") -> None:
        """Be the Mmu of another vCPU of the guest that `first`, of the same class, has the memory of."""
        self._sharers = first._sharers
        self._sharers.append(self)

    def start(self) -> None:
        """Have the guest's tables, if they are Quire's to build: the first guest-physical accesses, which may exit."""
        if self.builds_tables:
            first = self._sharers[0]
            self.tables = self.new_tables() if first is self else first.tables
            self._point_at_tables()

    def new_tables(self) -> Tables:
        """Return an empty hierarchy of the guest's, for one more address space. Raises OutOfFrames."""
        memory, logged = GuestFrames(self), self._sharers[0].logged
        return Tables(memory if logged is None else logged(memory), GUEST_FORMAT, self.changed_for_all)

    def _point_at_tables(self) -> None:
        self.guest_context[Context.CR3] = self.tables.root
        self.vmx.vmcs.write("guest_cr3", self.tables.root)

    def enable_pcids(self) -> bool:
        """Set CR4.PCIDE for the kernel that Quire plays, if the processor has it; return whether it is set."""
        vmcs = self.vmx.vmcs
        cr4 = vmcs.read("guest_cr4")
        if not cr4 & _PCIDE and self.vmx.profile.vmx.cr4.permits(cr4 | _PCIDE):
            vmcs.write("guest_cr4", cr4 := cr4 | _PCIDE)
        return bool(cr4 & _PCIDE)

    def load_tables(self, tables: Tables, pcid: int, *, keep: bool) -> None:
        """Execute MOV to CR3: `tables` are the guest's from now on, under `pcid`; `keep` is bit 63 (SDM 3A §4.10.4.1).

        The PCID counts only if CR4.PCIDE is set; without it give 0.
        """
        self.tables, self.pcid = tables, pcid
        self.guest_context[Context.CR3] = tables.root
        # Not by Vmcs.write: no control changes with CR3, so that nobody need look at all fields.
        self.vmx.vmcs.words[_GUEST_CR3] = tables.root | pcid
        if self.tlb is not None:
            self.tlb.enter(self.space)
        self.execute(Operation.MOV_CR3_KEEP if keep else Operation.MOV_CR3)

    def changed(self, start: int = 0, size: int = 0) -> None:
        """Mappings of either dimension go or change, from `start` on: remembered walks are stale."""
        del start, size
        self.context[Context.VERSION] += np.uint64(1)
        self.table_pages.clear()

    def changed_for_all(self, start: int = 0, size: int = 0) -> None:
        """Do what :meth:`changed` does on every vCPU of the guest."""
        for one in self._sharers:
            one.changed(start, size)

    def follow(self) -> None:
        """The guest changed its control registers, and :attr:`guest_context` with them."""
        self.changed()

    def store(self, gpa: int, entry: int) -> None:
        """Write the 8-byte entry at guest-physical `gpa` for the guest's kernel."""
        self.host.memory.store(self.entry_hpa(gpa, write=True), entry)

    def entry_hpa(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of the guest's table entry at `gpa`, which is to be written if `write` says so."""
        page = self.table_pages.get(gpa >> PAGE_SHIFT)
        if page is None:
            page = self.table_pages[gpa >> PAGE_SHIFT] = self.reach(gpa) & -PAGE_SIZE
        if write and self.log is not None:
            self.log.written(gpa)
        return page | gpa & PAGE_SIZE - 1

    def own_fault(self, gva: int, access: Access, error: int, *, implicit: bool) -> int | None:
        """Return the error code of a #PF that is the guest's own, None if it is the hypervisor's to mend.

        `error` is what hardware said; `implicit`: the access is a supervisor's by nature.
        """
        del gva, access, implicit
        return error

    def allocate_table_frame(self) -> int:
        """Return the guest frame number of a new page for the guest's tables. Raises OutOfFrames."""
        return self.frames.allocate(0, _TABLE)

    def free_table_frame(self, gfn: int) -> None:
        """Take back what :meth:`allocate_table_frame` returned."""
        self.frames.free(gfn, 0, _TABLE)

    def place(self, node: int) -> None:
        """The vCPU runs on `node` from now on: walk the tables that are there, if there are any."""
        del node

    @property
    @abstractmethod
    def space(self) -> AddressSpace:
        """The tags of the guest's translations."""

    def open_bus(self, start: int, end: int) -> int:
        """Have guest-physical `start` to `end` be devices'; return what hardware's addresses there have added."""
        del start, end
        return 0

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
        self.frames.free(gpa >> PAGE_SHIFT, block_order(size), _PAGE)

    def divide(self, gpa: int, size: int) -> None:
        """Turn an allocated block into single frames, each to be freed alone."""
        self.frames.divide(gpa >> PAGE_SHIFT, block_order(size), _PAGE)

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

    def dirty_pages(self, region: int) -> list[int]:
        """Return the small guest pages with a dirty flag in the 2 MiB at `region`."""
        return self.tables.dirty_pages(region)

    def move_tables(self, start: int, end: int, to: int) -> None:
        """Have the page tables of the 2 MiB pieces from `start` to `end` map those from `to` on; drop all that is
        cached of this address space, once.
        """
        self.tables.move_tables(start, end, to)
        self.invalidate(None)

    def lookup(self, gva: int) -> Mapping | None:
        """Return the guest page that maps `gva`, or None."""
        return self.tables.lookup(gva)

    def walk(self, gva: int, access: Access, *, user: bool = True) -> WalkRecord:
        """Return the explained walk of `gva`, without side effects."""
        context = self.guest_context.copy()
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
        tlb.context = self.context
        tlb.enter(self.space)

    def invalidate(self, gva: int | None) -> None:
        """INVLPG of one page, or MOV to CR3: all of the current PCID but global pages."""
        self.forget(gva)
        self.apply(Operation.MOV_CR3 if gva is None else Operation.INVLPG, gva=gva or 0)

    def apply(self, operation: Operation, *, pcid: int | None = None, gva: int = 0, gpa: int = 0) -> None:
        """Apply `operation` to the modelled TLB: of `pcid`, by default the current one, and the page of `gva`.

        One that invalidates nothing is not counted; who observes the TLB hears of it all the same.
        """
        if operation.value.classes:
            self.invalidations[operation] = self.invalidations.get(operation, 0) + 1
        if self.tlb is not None:
            space = self.space
            self.tlb.invalidate(
                operation,
                vpid=space.vpid or 0,
                pcid=self.pcid if pcid is None else pcid,
                ep4ta=space.ep4ta,
                gva=gva,
                gpa=gpa,
            )

    def execute(self, operation: Operation, *, pcid: int | None = None, gva: int = 0, gpa: int = 0) -> None:
        """Do what an instruction of this vCPU that invalidates does: to remembered walks, to the Cpu, to the TLB."""
        self.changed()
        self.forget(gva if operation is Operation.INVLPG else None)
        self.apply(operation, pcid=pcid, gva=gva, gpa=gpa)

    def violated(self, gva: int, gpa: int) -> None:
        """Drop what an EPT violation at `gpa`, met on the way to `gva`, drops; no software asked for it."""
        if self.tlb is not None:
            space = self.space
            self.tlb.invalidate(
                Operation.EPT_VIOLATION,
                vpid=space.vpid or 0,
                pcid=self.pcid,
                ep4ta=space.ep4ta,
                gva=gva,
                gpa=gpa,
            )

    def close(self) -> None:
        """Free the guest's tables with the Mmu of its last vCPU."""
        self._sharers.remove(self)
        if not self._sharers and hasattr(self, "tables"):
            self.tables.close()


class NativeMmu(PagedMmu):
    """One dimension: guest frames are frames of the host's pool."""

    name = "native"

    def __init__(
        self, host: Host, vmx: VmxState, guest_bytes: int, placement: Placement | None = None
    ) -> None:
        super().__init__(host, vmx, host.pool, placement)
        self._given = 0  # pages so far: what interleaving goes by
        self._limit = guest_bytes >> PAGE_SHIFT

    @property
    def space(self) -> AddressSpace:
        """Linear mappings of this vCPU."""
        return AddressSpace(self.vmx.vpid, self.pcid, None)

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return `gpa`: there is no second dimension."""
        del write
        return gpa

    def allocate(self, size: int) -> int | None:
        """Return the address of zeroed host frames, None when the guest has all that it may."""
        order = block_order(size)
        if self._used() + (1 << order) > self._limit:
            return None
        try:
            hfn = self.placement.page(order, _PAGE, Fill.ZERO, self._given >> order)
        except OutOfFrames:
            return None
        self._given += 1 << order
        return hfn << PAGE_SHIFT

    def allocate_table_frame(self) -> int:
        """Return a host frame, which is the guest's."""
        self._given += 1
        return self.placement.page(0, _TABLE, Fill.POISON, self._given - 1, table=True)

    def resident_bytes(self) -> int:
        """Every guest page is a host frame."""
        return self._used() << PAGE_SHIFT

    def _used(self) -> int:
        return self.frames.frames_of(OwnerKind.GUEST_PAGE) + self.frames.frames_of(OwnerKind.GUEST_TABLE)


def block_order(size: int) -> int:
    """Return the pool's order of a block of `size` bytes."""
    return 0 if size == PAGE_SIZE else (size >> PAGE_SHIFT).bit_length() - 1


def _nobody(stop: Exit) -> None:
    raise MisuseError(f"{stop.reason.name} with no hypervisor to deal with it: set on_exit first")
