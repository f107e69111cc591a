"""The soft Cpu in ring 0: executes a machine guest, answers its intercepts, delivers its exceptions.

Each pass runs the engine until it stops, then does what a processor does there: a VM exit leaves, an exception goes
through the guest's own IDT, an instruction that does not exit is performed. Descriptor tables are read at CPL 3 too,
where the fill hook sees a user access: an instruction that loads a segment is then let through alone. Limits, all of
them the engine's: SYSRET to a non-canonical RCX faults at CPL 3; RDRAND works although CPUID does not offer it; LTR
and LLDT accept a null selector; there is no interrupt shadow; IA-32e mode is not left.
"""

import numpy as np
from unicorn import unicorn_const as uc
from unicorn import x86_const as x86

from quire.arch import DR6, PF_ERROR, RFLAGS, WORD, Access, ExitReason, InterruptionType, Vector
from quire.arch.guest_state import ActivityState
from quire.cpu.detail import Detail
from quire.cpu.soft import _kernels
from quire.cpu.soft.counts import PrivilegeTold
from quire.cpu.soft.decode import MAX_LENGTH, decode
from quire.cpu.soft.registers import SoftRegisters
from quire.cpu.soft.ring0 import _kernels as ring0_kernels
from quire.cpu.soft.ring0.codes import ALWAYS_UNDEFINED, INTERCEPT, Intercept
from quire.cpu.soft.ring0.device_window import DeviceWindow
from quire.cpu.soft.ring0.environment import SegmentName
from quire.cpu.soft.ring0.guest_mode import enter_guest_mode
from quire.cpu.soft.ring0.guest_state import GuestState
from quire.cpu.soft.ring0.intercepts import Answer, Intercepts
from quire.cpu.soft.ring0.registers import MachineRegisters
from quire.cpu.soft.soft import SoftCpu
from quire.cpu.soft.state import BUS_END, TSC_READ, SoftState
from quire.machine import Vcpu
from quire.paging import Context, Status
from quire.paging._kernels import walk
from quire.vcpu import Event, Exit, Interrupted, Nested, Stop, Trap, TrapKind, deliver_event

__all__ = ["MachineCpu"]

_EXCEPTIONS = range(Intercept.EXCEPTION, Intercept.EXCEPTION + 32)
_CODED = (Vector.DF, Vector.TS, Vector.NP, Vector.SS, Vector.GP, Vector.PF, Vector.AC)
_NOWHERE = WORD
_POINTERS = ("rip", "rsp", "rflags")
_USER, _AC, _AC_SHIFT = int(Context.USER), int(Context.AC), RFLAGS.shift("AC")
_PAGE_FAULT = TrapKind.PAGE_FAULT
_FIRST_EXCEPTION = int(Intercept.EXCEPTION)
_SINGLE_STEP = DR6.mask("BS")
#: What the engine takes for invalid and a processor does not.
_UNKNOWN_TO_ENGINE = (*ALWAYS_UNDEFINED, "invpcid", "int1")


class MachineCpu(SoftCpu):
    """Executes the machine guest of `vcpu`, counting as `detail` says."""

    _zero_is_code = True
    _privilege = PrivilegeTold(ring0_kernels.on_block_privilege, ring0_kernels.copy_privilege)

    def __init__(
        self, vcpu: Vcpu, detail: Detail, *, in_slices: bool = False, by_hooks: bool = False
    ) -> None:
        self._in_slices = in_slices
        super().__init__(
            vcpu.host.memory,
            vcpu.mmu.context,
            vcpu.tlb,
            detail,
            vcpu.handle_exit,
            fills=vcpu.fills,
            evictions=vcpu.evictions,
            nodes=vcpu.node_references,
            by_hooks=by_hooks,
        )
        # The hooks that raise intercepts look at RIP: the engine must compute it at every access.
        self._scalars[SoftState.SKIP_SYNC_OFFSET] = 0
        self._vmx = vcpu.vmx
        self._processor = vcpu.processor
        self._linear = vcpu.linear_memory
        vmcs = self._vmx.vmcs
        self._guest = GuestState(self._environment, self._machine_registers, vmcs)
        self._window = self._open_window(vcpu) if vcpu.machine.config.bus else None
        self._intercepts = Intercepts(
            vcpu, self._processor, self._machine_registers, self._environment, self._linear
        )

    def _open_window(self, vcpu: Vcpu) -> DeviceWindow:
        """Have data beyond guest memory be devices'."""
        exits, shape = vcpu.exits, vcpu.machine.config.shape
        reason = ExitReason.EPT_VIOLATION if shape.hardware_walks_map else None
        if shape.shadows:
            reason = ExitReason.EXCEPTION_OR_NMI

        def met() -> None:
            if (
                reason is not None
            ):  # no memory is mapped there: each access is a VM exit (SDM 3C §28.3.2, §25.2)
                exits[reason] = exits.get(reason, 0) + 1

        start = vcpu.machine.config.memory
        self._scalars[SoftState.BUS] = start
        self._scalars[SoftState.BUS_BASE] = vcpu.mmu.open_bus(start, BUS_END)
        return DeviceWindow(self._engine, vcpu.machine.bus, start, self, met)

    def run(self) -> Stop:
        """Execute guest instructions until a VM exit or an interruption, or until the guest halts for good."""
        if self._take_interruption():  # here too: an exit of event delivery comes back before any instruction
            return Interrupted()
        stop = self._enter()
        while stop is None:
            stop = self._answer(super().run()) or self._load()
        return stop

    def forget(self, gva: int | None) -> None:
        """Drop cached translations before the next instruction, and where they were found: the space may change."""
        super().forget(gva)
        self._recent.fill(_NOWHERE)

    def set_tsc(self, value: int, share: int, aux: int) -> None:
        """Answer RDTSC and RDTSCP from `value` on, if instructions are counted where the hook finds them."""
        state = self._scalars
        if not state[SoftState.EMITTED] or not self._in_slices:
            return
        state[SoftState.TSC_BASE] = value - self.instructions() // share - self.tsc_time() & WORD
        state[SoftState.TSC_SHARE], state[SoftState.TSC_AUX] = share, aux

    def tsc_time(self) -> int:
        """Return the nanoseconds that reads took which the hook has answered."""
        return self._scalars[SoftState.TSC_READS] * TSC_READ

    def _enter(self) -> Stop | None:
        """Load the guest's state and deliver the event that VM entry injects, if any."""
        vmcs, event = self._vmx.vmcs, self._vmx.injection
        if event is None:
            return self._load()
        vmcs.write("vm_entry_interruption_information", 0)
        vmcs.write("guest_activity_state", ActivityState.ACTIVE)
        return self._load() or self._deliver(event)

    def _load(self) -> Stop | None:
        """Take over what changed in the VMCS; a halted guest needs somebody to wake it."""
        if not self._guest.load():
            return None
        try:
            self._processor.settle()
        except BaseException:  # no frame for a root: all of it once more when the guest goes on
            self._guest.outdated()
            raise
        self._set_privilege()
        halted = self._vmx.vmcs.read("guest_activity_state") != ActivityState.ACTIVE
        return Interrupted() if halted else None

    def _answer(self, stop: Stop) -> Stop | None:
        """Return `stop` if it leaves the guest; deal with it and return None if not."""
        self._set_privilege()
        self._guest.save()
        if self._window is not None:
            self._window.settle()
        if not isinstance(stop, Trap):
            return stop
        if stop.kind is _PAGE_FAULT:
            return self._page_fault(stop)
        if stop.vector < INTERCEPT:
            return self._raise(Event.exception(stop.vector, 0 if stop.vector == Vector.GP else None))
        answer = self._intercepted(stop.vector - INTERCEPT)
        return self._raise(answer) if isinstance(answer, Event) else answer

    def _page_fault(self, stop: Trap) -> Stop | None:
        self._processor.page_fault(stop.gva)
        access = np.uint64(self._scalars[SoftState.FAULT_ACCESS])
        if (
            walk(self._memory.words, self._context, np.uint64(stop.gva), access, self._result)
            != Status.PAGE_FAULT
        ):
            return None  # only a remembered walk was stale; what else the walk meets, the instruction meets again
        from_user = bool(stop.error_code & PF_ERROR.mask("U"))
        if self._environment.cpl == 3 and from_user and self._reads_table(stop.gva):
            return self._read_table(stop.gva, Access(int(access)))
        return self._raise(Event.exception(Vector.PF, stop.error_code), stop.gva)

    def _reads_table(self, gva: int) -> bool:
        """Whether the instruction at RIP meets `gva` in reading a descriptor table, which the supervisor may."""
        tables = (self._environment.segment(name) for name in (SegmentName.GDTR, SegmentName.LDTR))
        if not any(table.base <= gva <= table.base + table.limit for table in tables):
            return False
        environment = self._environment
        code = self._code(environment.code_address(self._registers.read("rip")), MAX_LENGTH)
        found = decode(code, environment.code_bits)
        return found is not None and found.reads_descriptor and not found.touches(gva, self._registers)

    def _read_table(self, gva: int, access: Access) -> Stop | None:
        """Let the instruction at RIP have the page of `gva` as a supervisor has it, or raise what that meets."""
        met = self._linear.translate(gva, access, supervisor=True)
        if isinstance(met, int):
            self._scalars[SoftState.IMPLICIT_PAGE] = (gva >> 12) + 1
            self._alone_at = self._registers.read("rip")
            return None
        return (
            self._raise(Event.exception(met.vector, met.error_code), met.cr2)
            if isinstance(met, Nested)
            else met
        )

    def _intercepted(self, code: int) -> Answer:
        """Return what the instruction or exception of an intercept comes to."""
        address = self._environment.code_address(self._registers.read("rip"))
        text = self._code(address, MAX_LENGTH)
        if not text:
            # The guest took its page away, which the engine's TLB has not noticed: it is to fetch again.
            self._processor.page_fault(address)
            self.forget(None)
            return None
        found = decode(text, self._environment.code_bits)
        if code not in _EXCEPTIONS:
            return Event.exception(Vector.UD) if found is None else self._intercepts.answer(found)
        vector = code - _FIRST_EXCEPTION
        if vector == Vector.UD and found is not None and found.name in _UNKNOWN_TO_ENGINE:
            return self._intercepts.answer(found)
        if vector == Vector.DB and self._registers.read("rflags") & RFLAGS.mask("TF"):
            self._processor.debug[6] |= _SINGLE_STEP
        coded = vector in _CODED
        return Event.exception(vector, self._environment.error_code & 0xFFFF if coded else None)

    def _raise(self, event: Event, gva: int | None = None) -> Stop | None:
        """Deliver an exception, unless the exception bitmap makes it a VM exit."""
        if self._intercepts.controls.exception_exits(event):
            length = event.instruction_length if event.software else 0
            return Exit(ExitReason.EXCEPTION_OR_NMI, gva or 0, instruction_length=length, interruption=event)
        if gva is not None:
            self._processor.cr2 = gva
        return self._deliver(event)

    def _deliver(self, event: Event) -> Stop | None:
        """Deliver `event` through the guest's IDT; return the VM exit that this leads to, if any."""
        if event.type is InterruptionType.OTHER_EVENT:
            return None
        state = self._guest.event_state()
        outcome = deliver_event(event, state, self._linear, self._intercepts.controls.exception_exits)
        if outcome.cr2 is not None:
            self._processor.cr2 = outcome.cr2
        if outcome.delivered is None:
            return outcome.exit
        vector = outcome.delivered.vector
        self._vmx.delivered[vector] = self._vmx.delivered.get(vector, 0) + 1
        self._guest.commit(state)
        self._guest.save()
        return None

    def _set_privilege(self) -> None:
        """Tell the walk the privilege of what Python does for the guest now; the hooks tell it while it runs."""
        self._controls[_USER] = self._environment.cpl == 3
        self._controls[_AC] = self._registers.read_many(_POINTERS)[2] >> _AC_SHIFT & 1

    def _make_registers(self) -> SoftRegisters:
        self._environment = enter_guest_mode(self._engine)
        self._machine_registers = MachineRegisters(self._engine, self._environment)
        return self._machine_registers

    def _add_hooks(self) -> None:
        user = self._pointers.ctypes.data
        engine = self._engine
        engine.hook(uc.UC_HOOK_TLB_FILL, ring0_kernels.on_fill_privilege.address, user)
        self._add_fill_hooks()
        engine.hook(uc.UC_HOOK_INTR, _kernels.on_interrupt.address, user)
        engine.hook(uc.UC_HOOK_INSN, ring0_kernels.on_system_call.address, user, x86.UC_X86_INS_SYSCALL)
        engine.hook(uc.UC_HOOK_INSN, ring0_kernels.on_in.address, user, x86.UC_X86_INS_IN)
        engine.hook(uc.UC_HOOK_INSN, ring0_kernels.on_out.address, user, x86.UC_X86_INS_OUT)
        engine.hook(uc.UC_HOOK_INSN, ring0_kernels.on_rdtsc.address, user, x86.UC_X86_INS_RDTSC)
        engine.hook(uc.UC_HOOK_INSN, ring0_kernels.on_rdtscp.address, user, x86.UC_X86_INS_RDTSCP)
        if self._in_slices:
            self._slices.start()
        self.counts.add_hooks()
