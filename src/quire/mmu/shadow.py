"""Shadow, the Mmu whose hardware walks one dimension: tables that equal the guest's composed with the memory map.

Every #PF, MOV to CR3 and INVLPG leaves the guest. The guest's walk is the two-dimensional one, made by software through
the memory map; :class:`quire.paging.shadow.Shadow` keeps what hardware walks. The kernel that Quire plays for a process
guest writes its tables and touches guest-physical memory through a direct map of its own, as Linux does.
"""

from dataclasses import asdict, dataclass
from typing import cast

from quire.arch import (
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PAGE_SHIFT,
    PAGE_SIZE,
    PF_ERROR,
    Access,
    ExitReason,
    MemoryType,
    Vector,
)
from quire.arch.cr_access import CrAccess, CrExit
from quire.errors import InternalError
from quire.memory import Owner, OwnerKind
from quire.mmu.backed import BackedMmu, table_memory
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.replicated_tables import ReplicatedTables
from quire.paging import GUEST_FORMAT, Context, Status, Tables
from quire.paging.shadow import LEAST_PAGES, DeviceRange, Resolution, Shadow, Verdict, audit
from quire.tlb import AddressSpace, Operation
from quire.vcpu import Event, Exit, VmxState
from quire.vcpu.vmcs import word_of

__all__ = ["ShadowMmu", "ShadowOptions"]

_SHADOW_TABLE = Owner(OwnerKind.SHADOW_TABLE, "shadow tables")
#: Where Linux has its direct map of physical memory (Documentation/arch/x86/x86_64/mm.rst).
_DIRECT_MAP = 0xFFFF_8880_0000_0000
_PER_MILLE = 20  # of guest memory: how much its shadow pages may take by default (KVM_PERMILLE_MMU_PAGES)
_READ_FAULT, _WRITE_FAULT = PF_ERROR.encode(), PF_ERROR.encode(W=1)
_TABLE_WRITE = PF_ERROR.encode(P=1, W=1)
_TO_WRITE = EPT_VIOLATION_QUALIFICATION.mask("W")
_INVLPG_LENGTH = _MOV_CR_LENGTH = 3  # of the played kernel's instructions
_GUEST_CR3 = word_of("guest_cr3")
_FILLED = Resolution(Verdict.FILLED)


@dataclass(frozen=True, slots=True)
class ShadowOptions:
    """How shadow tables are kept: `pages` bounds them (None: 2 % of guest memory), `prefetch` entries are filled
    together, with `audit` every entry is justified anew after every exit. Each vCPU has a shadow of its own.
    """

    pages: int | None = None
    prefetch: int = 1
    audit: bool = False

    def limit(self, guest_bytes: int) -> int:
        """Return how many shadow pages one vCPU may have of a guest with so much memory."""
        frames = guest_bytes >> PAGE_SHIFT
        usual = max(LEAST_PAGES, frames * _PER_MILLE // 1000)
        return usual if self.pages is None else min(self.pages, frames)  # no guest has more tables


class ShadowMmu(BackedMmu):
    """One dimension for hardware. `context` is hardware's, `guest_context` is the guest's, over the memory map.

    Each vCPU has a shadow of its own: what its own TLB may still hold, it may still say. What every one of them has to
    follow, whichever vCPU runs, is done to all: writes of the guest's tables, changes of the memory map.
    """

    name = "shadow"
    page_faults_exit = True
    _handler = "page fault"
    map_flush = Operation.INVVPID_CONTEXT

    def __init__(
        self,
        host: Host,
        vmx: VmxState,
        guest_bytes: int,
        page_size: int,
        memory_map: Tables,
        options: ShadowOptions,
        placement: Placement | None = None,
    ) -> None:
        super().__init__(host, vmx, guest_bytes, page_size, memory_map, placement)
        self.guest_context = self.context.copy()
        eptp = EPTP.encode(MT=MemoryType.WB, walk_length=3, addr=memory_map.root)
        self.guest_context[Context.EPTP] = eptp
        limit = min(options.limit(guest_bytes), host.pool.frame_count)  # there are no frames for more
        frames = table_memory(host, _SHADOW_TABLE, GUEST_FORMAT, self.placement)
        #: The memory of the shadow's tables, where every node has its own.
        self.copies = frames if isinstance(frames, ReplicatedTables) else None
        self.shadow = Shadow(
            host.memory,
            frames,
            memory_map,
            self.guest_context,
            self.context,
            limit=limit,
            flush=self._flush,
            prefetch=options.prefetch,
        )
        if self.copies is not None:
            self.shadow.tables.memory = self.copies
        memory_map.on_change = self._map_changes
        self._next: tuple[Tables, int, bool] | None = None  # what MOV to CR3 is about to load
        self._direct_map = _DirectMap()
        self._shadows = [self.shadow]  # of all vCPUs of the guest
        vmx.intercept_paging()

    @property
    def shadowed(self) -> "ShadowMmu":
        """This Mmu."""
        return self

    def share(self, first: PagedMmu) -> None:
        """Be the Mmu of another vCPU of the guest that `first`, of the same class, has the memory of."""
        super().share(first)
        first = cast(ShadowMmu, first)
        self._shadows, self._direct_map = first._shadows, first._direct_map
        self._shadows.append(self.shadow)
        self.memory_map.on_change = first._map_changes

    def start(self) -> None:
        """Build the guest's tables, if they are Quire's to build, and a root for hardware."""
        super().start()
        if self.builds_tables:
            self.follow()

    @property
    def space(self) -> AddressSpace:
        """Linear mappings of this vCPU and its current PCID."""
        return AddressSpace(self.vmx.vpid, self.pcid, None)

    def follow(self) -> None:
        """Load the root that the guest's registers ask for; settings that entries depend on flush what was cached."""
        super().follow()
        root = int(self.guest_context[Context.CR3]) & -PAGE_SIZE
        if self.memory_map.target(root) is None:
            self.back(root)
        if self.shadow.load(self.pcid):
            self._flush()
        if self.copies is not None:
            root = int(self.context[Context.CR3])
            self.context[Context.CR3] = (
                self.copies.copy_on(self.placement.toucher, root & -PAGE_SIZE) | root % PAGE_SIZE
            )
        # Not by Vmcs.write: no control and nothing of the guest's has changed, so that nobody need look at all fields.
        self.vmx.vmcs.words[_GUEST_CR3] = int(self.context[Context.CR3])

    def place(self, node: int) -> None:
        """Walk the copy of the shadow that `node` has, if it has one."""
        del node
        self.follow()

    def resolve(self, gva: int, error_code: int) -> Resolution:
        """Return what a #PF exit comes to, everything done that the hypervisor can do. Raises OutOfFrames."""
        asked = self._direct_map.asked
        if asked is not None:
            missing = self.memory_map.target(asked) is None
            if missing and not self.back(asked):
                return Resolution(Verdict.NO_MEMORY, gpa=asked)
            return _FILLED
        while True:
            found = self.shadow.resolve(gva, error_code)
            if found.verdict is not Verdict.NO_MEMORY:
                return found
            if self.memory_map.target(found.gpa) is None:
                if not self.back(found.gpa):
                    return found
            elif self.log is None or not found.error & _TO_WRITE or not self.log.violated(found.gpa):
                return found

    def own_fault(self, gva: int, access: Access, error: int, *, implicit: bool) -> int | None:
        """Return the error code of a #PF that the guest's own tables give; None leaves it to :meth:`resolve`."""
        user = bool(error & PF_ERROR.mask("U"))
        if self.shadow.walk(gva, access, user=user, implicit=implicit) == Status.PAGE_FAULT:
            return self.shadow.error_code
        return None

    def translate(self, gva: int, access: Access) -> tuple[int, int]:
        """Translate a user access through the shadow; each gap in it is an exit."""
        while True:
            status, value = super().translate(gva, access)
            if status != Status.PAGE_FAULT:
                return status, value
            self.on_exit(_page_fault(gva, value))
            own = self.vmx.take_exception()
            if own is not None:
                return status, own

    def open_bus(self, start: int, end: int) -> int:
        """Mark the leaves of devices by an address that no memory has: half of all that there can be."""
        base = 1 << self.vmx.profile.maxphyaddr - 1
        self.shadow.devices = DeviceRange(start, end, base)
        return base

    def software_exit(self, gpa: int, *, write: bool) -> None:
        """A #PF in the direct map of the guest's kernel."""
        self._exit_at(gpa, _WRITE_FAULT if write else _READ_FAULT)

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of `gpa`; each shadow of a frame that is to be written is emptied: writes are not followed."""
        if write:
            for shadow in self._shadows:
                shadow.forget_frame(gpa)
        return super().reach(gpa, write=write)

    def store(self, gpa: int, entry: int) -> None:
        """Write an entry of the guest's tables; of a table that is in sync on any vCPU, that is an exit."""
        hpa = self.entry_hpa(gpa, write=True)
        for shadow in self._shadows:
            if shadow.write_exits(gpa):
                break
        else:
            self.host.memory.store(hpa, entry)
            return
        self._exit_at(gpa, _TABLE_WRITE)
        following = [one for one in self._shadows if one.write_exits(gpa) and one.release(gpa)]
        self.host.memory.store(hpa, entry)
        for shadow in following:
            shadow.written(gpa)

    def invalidate(self, gva: int | None) -> None:
        """INVLPG or MOV to CR3 of the played kernel: an exit, whose handler calls :meth:`perform_invalidation`."""
        if gva is None:
            said = CrExit(3, CrAccess.MOV_TO).qualification
            self.on_exit(Exit(ExitReason.CR_ACCESS, said, instruction_length=_MOV_CR_LENGTH, passes=True))
        else:
            self.on_exit(Exit(ExitReason.INVLPG, gva, instruction_length=_INVLPG_LENGTH, passes=True))

    def load_tables(self, tables: Tables, pcid: int, *, keep: bool) -> None:
        """MOV to CR3 of the played kernel: an exit, whose handler calls :meth:`perform_invalidation`."""
        self._next = tables, pcid, keep
        self.invalidate(None)

    def perform_invalidation(self, gva: int | None) -> None:
        """Do what the instruction does, to TLB and shadow."""
        if gva is not None or self._next is None:
            super().invalidate(gva)
            return
        (tables, pcid, keep), self._next = self._next, None
        self.tables, self.pcid = tables, pcid
        self.guest_context[Context.CR3] = tables.root
        self.follow()
        if self.tlb is not None:
            self.tlb.enter(self.space)
        self.execute(Operation.MOV_CR3_KEEP if keep else Operation.MOV_CR3)

    def apply(self, operation: Operation, *, pcid: int | None = None, gva: int = 0, gpa: int = 0) -> None:
        """Apply a row of the invalidation table to what is out of sync in the shadow, and to the TLB."""
        rule = operation.value
        # A #PF flushes what hardware cached of one address; the shadow has just been asked.
        if rule.classes and operation is not Operation.PAGE_FAULT:
            of_pcid = rule.pcid and not (rule.page and rule.global_pages)
            scope = (self.pcid if pcid is None else pcid) if of_pcid else None
            if rule.page:
                self.shadow.sync_address(gva, scope)
            else:
                self.shadow.sync(scope)
        super().apply(operation, pcid=pcid, gva=gva, gpa=gpa)

    def check(self) -> None:
        """Audit the shadow of each vCPU where no instruction is passing. Raises InternalError with every breach."""
        breaches = [one for shadow in self._shadows if not shadow.stepping for one in audit(shadow)]
        if breaches:
            raise InternalError("; ".join(str(one) for one in breaches) + ".")

    def counts(self) -> dict[str, int]:
        """Return what the shadow has and did so far, by name."""
        return asdict(self.shadow.counts())

    def close(self) -> None:
        """Free the shadow, then the rest."""
        self._shadows.remove(self.shadow)
        self.shadow.close()
        super().close()

    def _exit_at(self, gpa: int, error: int) -> None:
        """Exit on the vCPU that runs, which need not be that of this Mmu."""
        self._direct_map.asked = gpa
        try:
            self.on_exit(_page_fault(_DIRECT_MAP + gpa, error))
        finally:
            self._direct_map.asked = None

    def _map_changes(self, start: int, size: int) -> None:
        self.changed_for_all()
        for shadow in self._shadows:
            shadow.drop_range(start, size)

    def _flush(self) -> None:
        """What hardware may have cached is gone: INVVPID, and the engine's own TLB."""
        self.changed()
        self.forget(None)
        if self.tlb is not None:
            self.tlb.invalidate(Operation.INVVPID_CONTEXT, vpid=self.vmx.vpid)


@dataclass(slots=True)
class _DirectMap:
    """That of the guest's kernel, which has one on all vCPUs: `asked` is the GPA whose exit is being dealt with."""

    asked: int | None = None


def _page_fault(gva: int, error: int) -> Exit:
    event = Event.exception(Vector.PF, error)
    return Exit(ExitReason.EXCEPTION_OR_NMI, gva, interruption=event)
