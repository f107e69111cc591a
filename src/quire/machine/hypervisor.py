"""The hypervisor: created in named steps, each with its undo, and the one loop that runs a guest.

Steps, in order: memory, EPT, vCPU, memory management, TLB, enable. A step that fails undoes those before it, last
first, and the pool is as it was. :meth:`Hypervisor.run` enters the vCPU, lets the Cpu run, and deals with what
stopped it: VM exits by the handler table, the rest by the guest's kernel.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Protocol

from quire.arch import PAGE_SHIFT, RFLAGS, ExitReason, Vector
from quire.devices.ports import Ports
from quire.errors import MisuseError
from quire.exits.handlers import DEFAULT_HANDLERS, GuestStopped, Handler
from quire.exits.machine_handlers import MACHINE_HANDLERS
from quire.exits.processor import Processor
from quire.exits.shadow_handlers import MACHINE_SHADOW_HANDLERS, SHADOW_HANDLERS
from quire.machine.checked import choose_fills
from quire.machine.config import GuestConfig
from quire.memory import Owner, OwnerKind
from quire.mmu.backed import BackedMmu, EptMmu, make_ept
from quire.mmu.host import Host
from quire.mmu.kept_fills import KeptFills
from quire.mmu.linear_memory import WalkedMemory
from quire.mmu.own_memory import MachineEptMmu, MachineNativeMmu, MachineShadowMmu, machine_host
from quire.mmu.paged import NativeMmu, PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.shadow import ShadowMmu
from quire.mmu.walk_controls import follow_controls, save_log_index
from quire.observe.dirty import DirtyLog, DirtyWay
from quire.observe.flushes import FlushCheck
from quire.paging import Context, Tables
from quire.tlb import Operation, Tlb
from quire.tlb.nodes import NodeReferences
from quire.vcpu import Cpu, Event, Exit, Registers, Syscall, Trap, TrapKind, Vcpu, Vmcs

__all__ = ["STEPS", "GuestKernel", "Hypervisor"]

#: The steps of creation, in order.
STEPS = ("memory", "EPT", "vCPU", "memory management", "TLB", "enable")

_POINTERS = ("rip", "rsp", "rflags")
_PAGE_FAULT = TrapKind.PAGE_FAULT
_RF = RFLAGS.mask("RF")


class GuestKernel(Protocol):
    """What the loop asks of the guest's kernel, which Quire plays for process guests."""

    @property
    def finished(self) -> bool:
        """Whether the guest has ended."""
        ...

    def syscall(self) -> None:
        """Deal with the SYSCALL that the guest executed."""
        ...

    def page_fault(self, gva: int, error_code: int) -> None:
        """Deal with a #PF."""
        ...

    def exception(self, vector: int, error_code: int) -> None:
        """Deal with any other exception."""
        ...

    def interrupted(self) -> None:
        """Deal with what interrupted the Cpu from outside."""
        ...


MakeCpu = Callable[["Hypervisor"], Cpu]


class Hypervisor:
    """One vCPU of a guest, and all that runs it. `make_cpu` builds the Cpu in the last step; guests may share a `host`.

    `first` is the guest's first vCPU, whose memory, handlers and ports this one shares; close it last. `on_step` hears
    of each step before it happens. Raises what a step raises, with everything undone.
    """

    cpu: Cpu
    mmu: PagedMmu
    vcpu: Vcpu
    tlb: Tlb
    host: Host
    flush_check: FlushCheck | None  #: of a checked run
    fills: KeptFills | None = None  #: who says what the guest gets of a page, None for the walk
    evictions: random.Random | None = None  #: what goes when, in evict mode
    placement: Placement  #: where its memory comes from, the same for all vCPUs of a guest
    node = 0  #: where this vCPU runs
    node_references: NodeReferences | None = None  #: references by node, on a host with nodes
    processor: Processor  #: of a machine guest alone, like the two that follow
    linear_memory: WalkedMemory
    ports: Ports

    def __init__(
        self,
        config: GuestConfig,
        make_cpu: MakeCpu,
        *,
        host: Host | None = None,
        first: "Hypervisor | None" = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.config = config
        self.handlers: dict[ExitReason, Handler] = dict(DEFAULT_HANDLERS)
        if config.kind == "machine":
            self.handlers.update(MACHINE_HANDLERS)
            self.ports = Ports()
        if config.mmu == "shadow":
            self.handlers.update(SHADOW_HANDLERS if config.kind == "process" else MACHINE_SHADOW_HANDLERS)
        self.page_faults = 0
        self.cpu_exit: Exit | None = (
            None  #: the last that an instruction of the guest caused, not Python for it
        )
        self._registers: Registers | None = None  # while there is none, exits are the hypervisor's own
        self._audits = config.mmu == "shadow" and config.shadow.audit
        self._logs = False  # whether the walk fills a page-modification log
        self._log_index = 0  # the log's index as VMCS and walk last agreed on it
        self._followed = -1  # the VMCS generation whose controls the walk has
        self.dirty_log: DirtyLog | None = None  #: of the first vCPU, while the guest's writes are logged
        self._make_cpu = make_cpu
        self._given_host = host if first is None else first.host
        self._first = first
        self.vcpus: list[Hypervisor] = (
            [] if first is None else first.vcpus
        )  #: every vCPU of the guest, in order
        if first is not None:
            self._join(first)
        self._ept: Tables | None = None
        actions = (
            self._take_memory,
            self._build_ept,
            self._build_vcpu,
            self._build_memory_management,
            self._build_tlb,
            self._enable,
        )
        with ExitStack() as undo:
            for step, action in zip(STEPS, actions, strict=True):
                on_step(step)
                action(undo)
            self._undo = undo.pop_all()

    def _join(self, first: "Hypervisor") -> None:
        if self.config.kind != "machine" or self.config.mmu == "shadow":
            raise MisuseError(
                f"A {self.config.kind} guest under {self.config.mmu} has one vCPU: several share the memory of a "
                "machine guest under native or ept"
            )
        if first.dirty_log is not None:
            raise MisuseError("A vCPU cannot join while the guest's writes are logged: leave the log first")
        self.handlers, self.ports = first.handlers, first.ports

    @property
    def ept_mmu(self) -> EptMmu:
        """The Mmu, when it is two-dimensional. Raises MisuseError when it is not."""
        if not isinstance(self.mmu, EptMmu):
            raise MisuseError(f"The {self.mmu.name} Mmu has no EPT: make the guest with mmu='ept'")
        return self.mmu

    @property
    def shadow_mmu(self) -> ShadowMmu:
        """The Mmu, when it keeps shadow tables. Raises MisuseError when it does not."""
        if not isinstance(self.mmu, ShadowMmu):
            raise MisuseError(f"The {self.mmu.name} Mmu has no shadow: make the guest with mmu='shadow'")
        return self.mmu

    def noting_writes(self, hpa: int) -> AbstractContextManager[None]:
        """Return the context in which Python may write guest memory in the frame of `hpa`: a check must know."""
        return nullcontext() if self.flush_check is None else self.flush_check.noting(hpa)

    @property
    def guest_rip(self) -> int:
        """Where the guest stands, 0 before it was there."""
        return 0 if self._registers is None else self._registers.read("rip")

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; False when the guest has no memory there."""
        if not isinstance(self.mmu, BackedMmu):
            raise MisuseError(
                f"Memory of a guest under {self.mmu.name} is there from the start: nothing to back"
            )
        return self.mmu.back(gpa)

    def handle_exit(self, stop: Exit) -> None:
        """Record a VM exit in the VMCS, count it, and let its handler deal with it. Raises GuestStopped."""
        vcpu, registers = self.vcpu, self._registers
        self.placement.toucher = self.node
        if registers is None:
            vcpu.exit(stop, 0, 0, 2)
        else:
            rip, rsp, rflags = registers.read_many(_POINTERS)
            vcpu.exit(stop, rip, rsp, rflags)
        if self._logs:
            self._log_index = save_log_index(vcpu.vmcs, self.mmu.context)
        if not vcpu.vpid and registers is not None:
            self.tlb.invalidate(Operation.VM_EXIT_VPID_0)
        if stop.reason is ExitReason.EPT_VIOLATION and self.mmu.tlb is not None:
            self.mmu.violated(stop.gla or 0, stop.gpa)
        handler = self.handlers.get(stop.reason)
        if handler is None:
            raise GuestStopped(stop)
        handler(self, stop)
        if stop.idt_vectoring is not None and vcpu.injection is None:
            self.inject(stop.idt_vectoring)  # what the exit cut off happens after all (SDM 3C §27.2.4)
        if self._audits and self._registers is not None:
            self.shadow_mmu.check()

    def shoot_down(
        self,
        operation: Operation,
        *,
        vcpus: "Sequence[Hypervisor] | None" = None,
        pcid: int = 0,
        gva: int = 0,
        gpa: int = 0,
    ) -> None:
        """Execute `operation` on `vcpus`, by default every vCPU of the guest: a flush that the hypervisor asks for.

        VPID and EP4TA are those of each vCPU.
        """
        for one in self.vcpus if vcpus is None else vcpus:
            vpid, ep4ta = one.vcpu.vpid, one.mmu.space.ep4ta
            one.tlb.invalidate(operation, vpid=vpid, pcid=pcid, ep4ta=ep4ta, gva=gva, gpa=gpa)
            one.mmu.changed()
            one.cpu.forget(None)

    def set_log_index(self, index: int) -> None:
        """Set where the page-modification log goes on, for VMCS and walk."""
        self.vcpu.vmcs.record_exit(pml_index=index)
        self.mmu.context[Context.PML_INDEX] = self._log_index = index

    def log_dirty(self, way: DirtyWay) -> DirtyLog:
        """Return a log of the guest's writes, kept in `way` until it is closed; a context manager, one at a time."""
        return DirtyLog(self.vcpus, way)

    def forget_code(self, hpa: int, length: int) -> None:
        """Bytes of host memory change behind the guest's back: no vCPU may go on with code compiled from them."""
        for one in self.vcpus:
            one.cpu.forget_code(hpa, length)

    def inject(self, event: Event) -> None:
        """Have the next VM entry deliver `event`. The frame of a machine guest's fault has RF = 1, of an abort RF = 0.

        The exit that took the fault saves RFLAGS with it (SDM 3C §27.3.3); an injected event pushes RFLAGS as it is.
        """
        if not event.injected and self.config.kind == "machine":
            registers = self.cpu.registers
            if event.fault:
                registers.write("rflags", registers.read("rflags") | _RF)
            elif event.vector == Vector.DF:
                registers.write("rflags", registers.read("rflags") & ~_RF)
        self.vcpu.inject(event)

    def run(self, kernel: GuestKernel) -> None:
        """Run the guest until its kernel says that it has finished. Raises GuestStopped, EntryFailure."""
        cpu, registers, faults_exit = self.cpu, self.cpu.registers, self.mmu.page_faults_exit
        while not kernel.finished:
            stop = cpu.run()
            if isinstance(stop, Exit):
                self.cpu_exit = stop
                self.handle_exit(stop)
                self.enter(*registers.read_many(_POINTERS))
            elif isinstance(stop, Syscall):
                kernel.syscall()
            elif isinstance(stop, Trap):
                if stop.kind is _PAGE_FAULT:
                    if faults_exit:
                        self._page_fault_exit(stop, kernel)
                        continue
                    self.page_faults += 1
                    kernel.page_fault(stop.gva, stop.error_code)
                else:
                    kernel.exception(stop.vector, stop.error_code)
            else:
                kernel.interrupted()

    def _page_fault_exit(self, stop: Trap, kernel: GuestKernel) -> None:
        """A #PF that leaves the guest; the next entry injects it if it is the guest's own."""
        event = Event.exception(stop.vector, stop.error_code)
        self.cpu_exit = Exit(ExitReason.EXCEPTION_OR_NMI, stop.gva, interruption=event)
        self.handle_exit(self.cpu_exit)
        self.enter(*self.cpu.registers.read_many(_POINTERS))
        own = self.vcpu.take_exception()
        if own is not None:
            self.page_faults += 1
            kernel.page_fault(stop.gva, own)

    def close(self) -> None:
        """Undo every step, last first."""
        if self.dirty_log is not None:
            self.dirty_log.close()
        self._undo.close()

    def discard(self) -> None:
        """End with the host: free the engine and the memory, not frame by frame. A shared host is left in order."""
        if self._given_host is not None:
            self.close()
            return
        self.cpu.close()
        self._undo.pop_all()
        self.host.close()

    def _take_memory(self, undo: ExitStack) -> None:
        config = self.config
        if self._first is not None:
            self.host, self.placement = self._first.host, self._first.placement
        else:
            self._take_host(config, undo)
            self.placement = Placement(self.host, config.numa)
        pools, numa = self.placement.node_pools, config.numa
        if pools is not None:
            self.node = 0 if numa is None else numa.vcpu_node
            cache = 0 if numa is None else numa.last_cache
            self.node_references = NodeReferences(pools.node_table, pools.topology.count, self.node, cache)
        self.placement.toucher = self.node

    def _take_host(self, config: GuestConfig, undo: ExitStack) -> None:
        machine_native = config.kind == "machine" and config.mmu == "native"
        if self._given_host is not None:
            if machine_native:
                raise MisuseError(
                    "A machine guest's memory under native is host memory from 0: it cannot share a host"
                )
            self.host = self._given_host
            return
        if machine_native:
            self.host = machine_host(config.memory)
            undo.callback(self.host.close)
            return
        page = config.guest_page if config.mmu == "native" else config.host_page
        nodes = None if config.numa is None else config.numa.topology
        self.host = Host.for_guest(config.memory, page, nodes)
        undo.callback(self.host.close)

    def _build_ept(self, undo: ExitStack) -> None:
        if self._first is not None:
            self._ept = self._first._ept
        elif self.config.mmu != "native":
            self._ept = make_ept(self.host, self.placement)
            undo.callback(self._ept.close)

    def _build_vcpu(self, undo: ExitStack) -> None:
        owner = Owner(OwnerKind.VMCS, "VMCS")
        hfn = self.host.pool.allocate(0, owner)
        undo.callback(self.host.pool.free, hfn, 0, owner)
        self.vcpu = Vcpu(Vmcs(self.host.memory, hfn << PAGE_SHIFT), self.config.profile, self.config.vpid)

    def _build_memory_management(self, undo: ExitStack) -> None:
        config = self.config
        machine = config.kind == "machine"
        if self._ept is None:
            make_native = MachineNativeMmu if machine else NativeMmu
            self.mmu = make_native(self.host, self.vcpu, config.memory, self.placement)
            undo.callback(self.mmu.close)
        else:
            arguments = self.host, self.vcpu, config.memory, config.host_page, self._ept
            mmu: BackedMmu
            if config.mmu == "ept":
                mmu = (MachineEptMmu if machine else EptMmu)(*arguments, self.placement)
            else:
                make_shadow = MachineShadowMmu if machine else ShadowMmu
                mmu = make_shadow(*arguments, config.shadow, self.placement)
            self.mmu = mmu
            mmu.regions = config.memory_regions()
            if config.name:
                mmu.page_owner = Owner(OwnerKind.GUEST_PAGE, f"guest pages of {config.name}")
            mmu.on_exit = self.handle_exit
            if self._first is not None and isinstance(self._first.mmu, BackedMmu):
                mmu.share(self._first.mmu)
            undo.callback(mmu.close)
            mmu.start()
        if machine:
            self.processor = Processor(self.vcpu, self.mmu)
            self.linear_memory = WalkedMemory(self.mmu, self.forget_code, self.noting_writes)

    def _build_tlb(self, undo: ExitStack) -> None:
        self.tlb = Tlb(self.config.profile, self.config.tlb)
        self.mmu.enter_tlb(self.tlb)
        choose_fills(self)
        undo.callback(self.tlb.invalidate, Operation.INVVPID_CONTEXT, vpid=self.config.vpid)

    def _enable(self, undo: ExitStack) -> None:
        self.cpu = self._make_cpu(self)
        undo.callback(self.cpu.close)
        self._registers = self.cpu.registers
        self.mmu.forget = self.cpu.forget
        if self.config.kind == "machine":
            self.processor.registers = self.cpu.registers
        self.vcpus.append(self)
        undo.callback(self.vcpus.remove, self)
        rip, rsp, rflags = self.cpu.registers.read_many(("rip", "rsp", "rflags"))
        self.enter(rip, rsp, rflags)

    def enter(self, rip: int, rsp: int, rflags: int) -> None:
        """Enter the vCPU; when fields have changed, let the walk's controls follow. Raises EntryFailure."""
        vmcs = self.vcpu.vmcs
        self.vcpu.enter(rip, rsp, rflags)
        if not self.vcpu.vpid:
            self.tlb.invalidate(Operation.VM_ENTRY_VPID_0)
        if vmcs.generation != self._followed:
            self.follow_controls()

    def follow_controls(self) -> None:
        """Let the walk follow the VMCS's controls now: for who changes them and walks before the next entry."""
        vmcs, context = self.vcpu.vmcs, self.mmu.context
        if self._logs and vmcs.read("pml_index") == self._log_index:
            save_log_index(vmcs, context)  # walks that Python made since the last exit have logged, too
        self._followed = vmcs.generation
        follow_controls(vmcs, context)
        self._logs, self._log_index = bool(context[Context.PML]), int(context[Context.PML_INDEX])
        self.cpu.forget(None)
