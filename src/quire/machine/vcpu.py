"""One vCPU of a machine: its VMCS, Mmu, TLB and engine, and the one loop that runs it.

Made in named steps, each with its undo. :meth:`Vcpu.run` enters it, lets the engine run, and deals with what stopped
it: VM exits by the machine's table of handlers, the rest by the guest's kernel.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Protocol

from quire.arch import PAGE_SHIFT, RFLAGS, WORD, ExitReason, Vector
from quire.devices.bus import Bus
from quire.devices.ports import Ports
from quire.errors import MisuseError
from quire.exits.context import Handler, SystemRegisters
from quire.exits.next_step import Inject, Next, Resume, Skip, StopGuest
from quire.exits.played_kernel import PlayedKernel
from quire.exits.processor import Processor
from quire.exits.stopped import GuestStopped
from quire.machine.checked import choose_fills
from quire.machine.config import GuestConfig
from quire.machine.guest_kernel import GuestKernel
from quire.machine.shape import MmuParts
from quire.memory import Owner, OwnerKind
from quire.mmu.host import Host
from quire.mmu.kept_fills import KeptFills
from quire.mmu.linear_memory import WalkedMemory
from quire.mmu.paged import PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.walk_controls import follow_controls, save_log_index
from quire.observe.flushes import FlushCheck
from quire.paging import Context, Tables
from quire.tlb import Operation, Tlb
from quire.tlb.nodes import NodeReferences
from quire.vcpu import Cpu, Event, Exit, Registers, Syscall, Trap, TrapKind, Vmcs, VmxState

__all__ = ["Hardware", "MakeCpu", "Vcpu"]

_POINTERS = ("rip", "rsp", "rflags")
_PAGE_FAULT, _SOFTWARE_INTERRUPT = TrapKind.PAGE_FAULT, TrapKind.SOFTWARE_INTERRUPT
_RF = RFLAGS.mask("RF")


class Hardware(Protocol):
    """What the vCPUs of a machine share; a :class:`quire.machine.Machine` is one."""

    config: GuestConfig
    host: Host
    placement: Placement
    memory_map: Tables | None
    handlers: dict[ExitReason, Handler]
    ports: Ports
    bus: Bus

    @property
    def vcpus(self) -> "Sequence[Vcpu]":
        """Every vCPU that is made, in order."""
        ...

    def forget_code(self, hpa: int, length: int) -> None:
        """Bytes of host memory change behind the guest's back: no vCPU may go on with code compiled from them."""
        ...


MakeCpu = Callable[["Vcpu"], Cpu]


class Vcpu:
    """The vCPU of this `number` of `machine`, run by what `make_cpu` makes; close it before the machine's memory goes.

    `on_step` hears of each step before it happens. Raises what a step raises, with everything undone.
    """

    cpu: Cpu
    mmu: PagedMmu
    vmx: VmxState
    tlb: Tlb
    system: SystemRegisters  #: of the guest, or of the kernel that Quire plays for it
    processor: Processor  #: the same, of a guest with a kernel of its own alone, like :attr:`linear_memory`
    linear_memory: WalkedMemory
    flush_check: FlushCheck | None = None  #: of a checked run
    fills: KeptFills | None = None  #: who says what the guest gets of a page, None for the walk
    evictions: random.Random | None = None  #: what goes when, in evict mode
    node = 0  #: where it runs
    node_references: NodeReferences | None = None  #: references by node, on a host with nodes

    def __init__(
        self, machine: Hardware, number: int, make_cpu: MakeCpu, on_step: Callable[[str], None]
    ) -> None:
        self.machine = machine
        self.number = number
        self.page_faults = 0
        self.cpu_exit: Exit | None = (
            None  #: the last that an instruction of the guest caused, not Quire for it
        )
        self._shape = machine.config.shape
        self._make_cpu = make_cpu
        self._registers: Registers | None = None  # while there is none, exits are Quire's own
        self._audits = self._shape.shadows and machine.config.shadow.audit
        self._logs = False  # whether the walk fills a page-modification log
        self._log_index = 0  # the log's index as VMCS and walk last agreed on it
        self._followed = -1  # the VMCS generation whose controls the walk has
        self._find_node()
        steps: tuple[tuple[str, Callable[[ExitStack], None]], ...] = (
            ("vCPU", self._build_vmx),
            ("memory management", self._build_memory_management),
            ("TLB", self._build_tlb),
            ("enable", self._enable),
        )
        with ExitStack() as undo:
            for step, action in steps:
                on_step(step)
                action(undo)
            self._undo = undo.pop_all()

    @property
    def vmcs(self) -> Vmcs:
        """The VMCS."""
        return self.vmx.vmcs

    @property
    def host(self) -> Host:
        """The machine's host memory."""
        return self.machine.host

    @property
    def ports(self) -> Ports:
        """The machine's I/O ports."""
        return self.machine.ports

    @property
    def exits(self) -> dict[ExitReason, int]:
        """How often it exited, by reason."""
        return self.vmx.exits

    @property
    def guest_rip(self) -> int:
        """Where the guest stands, 0 before it was there."""
        return 0 if self._registers is None else self._registers.read("rip")

    def cpuid(self, leaf: int, subleaf: int) -> tuple[int, int, int, int]:
        """Return what CPUID answers the guest."""
        return self._shape.cpuid(self.vmx.profile, leaf, subleaf)

    def noting_writes(self, hpa: int) -> AbstractContextManager[None]:
        """Return the context in which Python may write guest memory in the frame of `hpa`: a check must know."""
        return nullcontext() if self.flush_check is None else self.flush_check.noting(hpa)

    def handle_exit(self, stop: Exit) -> None:
        """Record a VM exit in the VMCS, count it, let its handler deal with it, and go on as that says.

        Raises GuestStopped.
        """
        vmx, registers = self.vmx, self._registers
        self.machine.placement.toucher = self.node
        if registers is None:
            vmx.exit(stop, 0, 0, 2)
        else:
            vmx.exit(stop, *registers.read_many(_POINTERS))
        if self._logs:
            self._log_index = save_log_index(vmx.vmcs, self.mmu.context)
        if not vmx.vpid and registers is not None:
            self.tlb.invalidate(Operation.VM_EXIT_VPID_0)
        if stop.reason is ExitReason.EPT_VIOLATION and self.mmu.tlb is not None:
            self.mmu.violated(stop.gla or 0, stop.gpa)
        handler = self.machine.handlers.get(stop.reason)
        if handler is None:
            raise GuestStopped(stop)
        self._go_on(stop, handler(self, stop))
        if stop.idt_vectoring is not None and vmx.injection is None:
            self.inject(stop.idt_vectoring)  # what the exit cut off happens after all (SDM 3C §27.2.4)
        if self._audits and self._registers is not None and self.mmu.shadowed is not None:
            self.mmu.shadowed.check()

    def _go_on(self, stop: Exit, then: Next) -> None:
        """Do what a handler of `stop` said: the one place where RIP moves past an instruction that exited."""
        if isinstance(then, Skip):
            self.vmx.end_shadow()
            if not stop.passes and self._registers is not None:
                length = stop.instruction_length if then.length is None else then.length
                self._registers.write("rip", self._registers.read("rip") + length & WORD)
        elif isinstance(then, Resume):
            if stop.passes and self._registers is not None:
                self._registers.write(
                    "rip", self._registers.read("rip")
                )  # or the Cpu would pass the instruction
        elif isinstance(then, Inject):
            self.inject(then.event)
        elif isinstance(then, StopGuest):
            raise GuestStopped(then.exit)
        else:
            raise MisuseError(
                f"The handler of {stop.reason.name} returned {then!r}, which does not say what happens next: "
                "return RESUME, SKIP, Inject(event) or StopGuest(exit)"
            )

    def inject(self, event: Event) -> None:
        """Have the next VM entry deliver `event`. The frame of a machine guest's fault has RF = 1, of an abort RF = 0.

        The exit that took the fault saves RFLAGS with it (SDM 3C §27.3.3); an injected event pushes RFLAGS as it is.
        """
        if not event.injected and self._shape.own_kernel:
            registers = self.cpu.registers
            if event.fault:
                registers.write("rflags", registers.read("rflags") | _RF)
            elif event.vector == Vector.DF:
                registers.write("rflags", registers.read("rflags") & ~_RF)
        self.vmx.inject(event)

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
                elif stop.kind is _SOFTWARE_INTERRUPT:
                    kernel.software_interrupt(stop.vector)
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
        own = self.vmx.take_exception()
        if own is not None:
            self.page_faults += 1
            kernel.page_fault(stop.gva, own)

    def enter(self, rip: int, rsp: int, rflags: int) -> None:
        """Enter the guest; when fields have changed, let the walk's controls follow. Raises EntryFailure."""
        self.vmx.enter(rip, rsp, rflags)
        if not self.vmx.vpid:
            self.tlb.invalidate(Operation.VM_ENTRY_VPID_0)
        if self.vmcs.generation != self._followed:
            self.follow_controls()

    def follow_controls(self) -> None:
        """Let the walk follow the VMCS's controls now: for who changes them and walks before the next entry."""
        vmcs, context = self.vmcs, self.mmu.context
        if self._logs and vmcs.read("pml_index") == self._log_index:
            save_log_index(vmcs, context)  # walks that Python made since the last exit have logged, too
        self._followed = vmcs.generation
        follow_controls(vmcs, context)
        self._logs, self._log_index = bool(context[Context.PML]), int(context[Context.PML_INDEX])
        self.cpu.forget(None)

    def flush(self, operation: Operation, *, pcid: int = 0, gva: int = 0, gpa: int = 0) -> None:
        """Execute `operation` here for the hypervisor; VPID and EP4TA are those of this vCPU."""
        ep4ta = self.mmu.space.ep4ta
        self.tlb.invalidate(operation, vpid=self.vmx.vpid, pcid=pcid, ep4ta=ep4ta, gva=gva, gpa=gpa)
        self.mmu.changed()
        self.cpu.forget(None)

    def set_log_index(self, index: int) -> None:
        """Set where the page-modification log goes on, for VMCS and walk."""
        self.vmcs.record_exit(pml_index=index)
        self.mmu.context[Context.PML_INDEX] = self._log_index = index

    def close(self) -> None:
        """Undo every step, last first."""
        self._undo.close()

    def discard(self) -> None:
        """Free the engine and nothing else: all memory goes at once."""
        self.cpu.close()
        self._undo.pop_all()

    def _find_node(self) -> None:
        """Say where it runs, and who counts its references by node."""
        config, placement = self.machine.config, self.machine.placement
        pools, numa = placement.node_pools, config.numa
        if pools is not None:
            if numa is not None:
                self.node = config.vcpu_nodes[self.number] if config.vcpu_nodes else numa.vcpu_node
            cache = 0 if numa is None else numa.last_cache
            self.node_references = NodeReferences(pools.node_table, pools.topology.count, self.node, cache)
        placement.toucher = self.node

    def _build_vmx(self, undo: ExitStack) -> None:
        owner, host, config = Owner(OwnerKind.VMCS, "VMCS"), self.host, self.machine.config
        hfn = host.pool.allocate(0, owner)
        undo.callback(host.pool.free, hfn, 0, owner)
        vpid = config.vpid + self.number if config.vpid else 0
        self.vmx = VmxState(Vmcs(host.memory, hfn << PAGE_SHIFT), config.profile, vpid)

    def _build_memory_management(self, undo: ExitStack) -> None:
        machine, config = self.machine, self.machine.config
        parts = MmuParts(
            self.host,
            self.vmx,
            config.memory,
            config.host_page,
            machine.memory_map,
            config.shadow,
            machine.placement,
        )
        self.mmu = mmu = self._shape.make_mmu(parts)
        mmu.on_exit = self.handle_exit
        mmu.regions = config.memory_regions()
        if config.name and mmu.mapped is not None:
            mmu.mapped.page_owner = Owner(OwnerKind.GUEST_PAGE, f"guest pages of {config.name}")
        if machine.vcpus:
            mmu.share(machine.vcpus[0].mmu)
        undo.callback(mmu.close)
        mmu.start()
        if self._shape.own_kernel:
            self.system = self.processor = Processor(self.vmx, mmu)
            self.linear_memory = WalkedMemory(mmu, machine.forget_code, self.noting_writes)
        else:
            self.system = PlayedKernel(mmu)

    def _build_tlb(self, undo: ExitStack) -> None:

        machine = self.machine
        self.tlb = Tlb(machine.config.profile, machine.config.tlb)
        self.mmu.enter_tlb(self.tlb)
        first = machine.vcpus[0].flush_check if machine.vcpus else None
        found = choose_fills(self.mmu, machine.config, self.number, lambda: self.guest_rip, first)
        self.flush_check, self.fills, self.evictions = found.check, found.kept, found.evictions
        if self.fills is not None:
            self.tlb.observers.append(self.fills.observe)
        undo.callback(self.tlb.invalidate, Operation.INVVPID_CONTEXT, vpid=self.vmx.vpid)

    def _enable(self, undo: ExitStack) -> None:
        self.cpu = self._make_cpu(self)
        undo.callback(self.cpu.close)
        self._registers = self.cpu.registers
        self.mmu.forget = self.cpu.forget
        if self._shape.own_kernel:
            self.processor.registers = self.cpu.registers
        self.enter(*self.cpu.registers.read_many(_POINTERS))
