"""A thread of a process guest: a Linux program, and Quire as the kernel that it calls.

The vCPU's loop calls :meth:`ProcessGuest.page_fault`, :meth:`~ProcessGuest.exception` and
:meth:`~ProcessGuest.syscall` at the matching exits. Contract: nothing that the guest does raises; its process ends with
`exit_status` or `death`. What it shares with other threads is its :class:`Process`, what all share the
:class:`Kernel`. Not thread-safe: who has the turn calls.
"""

import random
import signal
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from quire.arch import DR6, GENERAL, PAGE_SHIFT, RFLAGS, Vector, describe_page_fault
from quire.guest.kernel.actions import SA_RESTART, SigAction
from quire.guest.kernel.clock import HostClock, VirtualClock
from quire.guest.kernel.delivery import deliver
from quire.guest.kernel.frame import INITIAL_FPU, Trap
from quire.guest.kernel.group import Image, Process, timers_of
from quire.guest.kernel.host_memory import HostMemory
from quire.guest.kernel.lifecycle import Lifecycle
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.options import GuestOptions
from quire.guest.kernel.siginfo import BUS_ADRALN, SI_KERNEL, GuestDeath, SignalInfo
from quire.guest.kernel.system import Kernel, first_number
from quire.guest.kernel.turns import ExploredTurns
from quire.guest.kernel.usage import Usage
from quire.guest.kernel.vsyscall import VSYSCALL_PAGE, call_vsyscall
from quire.guest.load.launch import Program
from quire.guest.load.loader import load_program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.commons import Commons
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import UserMemory
from quire.guest.syscalls.channels import reclaim
from quire.guest.syscalls.futexes import leave_memory

__all__ = ["GuestOptions", "ProcessGuest"]

_CLEARED = (*(name for name in GENERAL if name != "rsp"), "fs_base", "gs_base")
_VECTOR_NAMES = {int(vector): vector.name for vector in Vector}
_RFLAGS = RFLAGS.encode(always_1=1, IF=1)
_SYSCALL_BYTES = 2
_EINTR = 4
_FPE_INTDIV, _ILL_ILLOPN, _TRAP_BRKPT, _TRAP_TRACE = 1, 2, 1, 2
_INT80, _INT_BYTES = 0x80, 2
#: Vectors whose gates Linux lets programs call, beside that of system calls.
_USER_GATES = (Vector.BP, Vector.OF)
_IN_IDT = 2  # of an error code: the selector is a vector (SDM 3A §6.13)
#: si_code of a floating-point exception by the flag that is up and not masked, in the kernel's order.
_FPE_CODES = ((0x01, 7), (0x04, 3), (0x08, 4), (0x12, 5), (0x20, 6))
_FPE_FLTUNK = 14


class ProcessGuest(Lifecycle):
    """The first thread of a guest, which runs `program` on `machine` with the environment `environ`."""

    def __init__(
        self,
        machine: ProcessMachine,
        program: Program,
        environ: Mapping[bytes, bytes],
        options: GuestOptions,
    ) -> None:
        envp = tuple(name + b"=" + value for name, value in environ.items())
        self.options = options
        rng = random.Random(options.seed)
        clock = (
            HostClock()
            if options.host_clock
            else VirtualClock(
                machine.instructions, time.clock_gettime_ns(time.CLOCK_REALTIME), machine.vcpu_count
            )
        )
        turns = None if options.schedule is None else ExploredTurns(options.schedule)
        kernel = Kernel(rng, clock, machine, turns, first_number(options.seed))
        space = AddressSpace(machine, rng, aslr=options.aslr, commons=Commons(machine, options.large))
        image = Image(machine, space, UserMemory(machine, space), replace(program, envp=envp))
        usage = Usage(space, clock.busy)
        number = kernel.new_number()
        process = Process(
            number, None, image, kernel.first_seat, timers_of(clock.now, usage, kernel.processes), usage
        )
        process.group = process.session = process.pid
        self.join(kernel, process, number, process.signals)
        kernel.processes[process.pid] = process
        kernel.scheduler.begin(self)
        self.watch_memory()
        self.enter(None)

    @property
    def rng(self) -> random.Random:
        """The seeded generator of all that guests see as random."""
        return self.kernel.rng

    @property
    def host_memory(self) -> HostMemory:
        """What guests hold of the host's memory outside their frames."""
        return self.kernel.host_memory

    @property
    def unimplemented(self) -> dict[str, int]:
        """What the guest asked for and did not get: name and count, in the order of first use."""
        return self.kernel.unimplemented

    @property
    def syscall_counts(self) -> dict[str, int]:
        """How often each system call was made, by all tasks."""
        return self.kernel.syscall_counts

    @property
    def lacks(self) -> Callable[..., None]:
        """Counts that the guest asked for something and was told ENOSYS."""
        return self.kernel.lacks

    def start(self) -> None:
        """Load the program and set the registers it starts with. Raises LaunchError."""
        self.begin_program(self.process.image)

    def begin_program(self, image: Image) -> None:
        """Load the program of `image`, and set the registers that it starts with. Raises LaunchError."""
        program = image.program
        begin = load_program(image.space, image.memory, program, program.envp, self.rng, self.options.hwcap)
        image.bias, image.file = begin.bias, begin.file
        registers = self.machine.registers
        registers.load_fpu(INITIAL_FPU)
        registers.write_many(
            dict.fromkeys(_CLEARED, 0) | {"rip": begin.rip, "rsp": begin.rsp, "rflags": _RFLAGS}
        )

    def watch_memory(self) -> None:
        """Have the address space ask for memory back, and for whether to go on with long work."""
        self.space.reclaim = lambda: reclaim(self)
        self.space.pages.pause = self._pause

    def page_fault(self, gva: int, error_code: int) -> None:
        """Handle #PF at `gva`: make the access possible, or send the signal that Linux sends."""
        if gva >> PAGE_SHIFT == VSYSCALL_PAGE and call_vsyscall(self, gva, error_code):
            self.deliver_signals()
            return
        refused = self.space.fault(gva, error_code)
        if refused is not None:
            # Linux calls every kernel address protected: the signal must not tell which are mapped.
            self.trap = Trap(Vector.PF, error_code | (gva >= TASK_SIZE), gva)
            text = f"{describe_page_fault(error_code)} at {gva:#x}: {refused.text}"
            self._fault(refused if self.space.exhausted else refused.with_text(text))
        elif self.signals.deliverable:
            self.deliver_signals()

    def exception(self, vector: int, error_code: int) -> None:
        """Handle an exception other than #PF: send the signal that Linux sends for it.

        RIP is where the processor reports it: at the instruction, or after it for #BP, #OF and #DB traps. The error
        code of #DB is what it adds to DR6.
        """
        rip = self.machine.registers.read("rip")
        signo, code, address = self._cause(vector, error_code, rip)
        if vector == Vector.DB:
            error_code = 0
        self.trap = Trap(vector, error_code, self.trap.address)
        name = _VECTOR_NAMES.get(vector, str(vector))
        text = f"#{name} with error code {error_code:#x}" if error_code else f"#{name}"
        self._fault(SignalInfo(signo, code, addr=address, text=f"{text} at rip {rip:#x}"))

    def software_interrupt(self, vector: int) -> None:
        """Handle INT n: a system call of the 32-bit table, a trap, or #GP for a gate that is not a program's."""
        if vector == _INT80:
            self.syscall_i386()
        elif vector in _USER_GATES:
            self.exception(vector, 0)
        else:
            registers = self.machine.registers
            registers.write("rip", registers.read("rip") - _INT_BYTES)
            self.exception(Vector.GP, vector << 3 | _IN_IDT)

    def collect_signals(self) -> None:
        """Send what came from outside and from timers meanwhile: who waits, or works for long, looks for it."""
        self.kernel.collect()

    def _pause(self) -> None:
        """End work for the guest in which a signal found it that will kill it. Raises OSError (EINTR)."""
        self.collect_signals()
        if self.signals.fatal:
            raise InterruptedError(_EINTR, "a signal ends the process")

    def deliver_signals(self) -> None:
        """Act on waiting signals; every return to the guest runs this."""
        if self.ended or self.finished:
            return
        if self.space.exhausted is not None:
            rip = self.machine.registers.read("rip")
            info = self.space.exhausted
            self.die(GuestDeath(info.signo, info.code, 0, rip, f"SIGKILL: {info.text}"))
            return
        death = deliver(self)
        if death is not None:
            self.die(death)

    def restart_call(self, action: SigAction | None) -> None:
        """Finish a system call that a signal interrupted: for handler `action`, or None for no handler."""
        number, self._restart = self._restart, None
        if number is None:
            return
        registers = self.machine.registers
        if action is not None and not action.flags & SA_RESTART:
            registers.write("rax", -_EINTR)
        else:
            registers.write_many({"rax": number, "rip": registers.read("rip") - _SYSCALL_BYTES})

    def stop_by(self, signo: int) -> bool:
        """Stop the process for a signal that was delivered: none of its threads runs until it is continued.

        False if nobody could continue its group.
        """
        return self.kernel.stop(self.process, signo)

    def forget_thread_memory(self) -> None:
        """Do what the thread's memory is told at its end: its robust locks, its number."""
        leave_memory(self)

    def close(self) -> None:
        """Unmap all memory, write shared file pages back, free every frame and descriptor."""
        self.space.close()

    def abandon(self) -> None:
        """Write shared file pages back; the machine's memory goes as a whole (see AddressSpace.abandon)."""
        self.space.abandon()

    def _fault(self, info: SignalInfo) -> None:
        self.signals.force(info)
        self.deliver_signals()

    def _cause(self, vector: int, error_code: int, rip: int) -> tuple[int, int, int]:
        """Return signal, si_code and address for an exception, as arch/x86/kernel/traps.c chooses them."""
        if vector == Vector.DE:
            return signal.SIGFPE, _FPE_INTDIV, rip
        if vector == Vector.UD:
            return signal.SIGILL, _ILL_ILLOPN, rip
        if vector == Vector.BP:
            return signal.SIGTRAP, SI_KERNEL, 0
        if vector == Vector.DB:
            return signal.SIGTRAP, _TRAP_TRACE if DR6.get(error_code, "BS") else _TRAP_BRKPT, rip
        if vector in (Vector.MF, Vector.XM):
            return signal.SIGFPE, self._fpe_code(vector), rip
        if vector == Vector.AC:
            return signal.SIGBUS, BUS_ADRALN, 0
        if vector in (Vector.SS, Vector.NP):
            return signal.SIGBUS, SI_KERNEL, 0
        return signal.SIGSEGV, SI_KERNEL, 0

    def _fpe_code(self, vector: int) -> int:
        fcw, fsw = struct.unpack_from("<HH", image := self.machine.registers.save_fpu())
        (mxcsr,) = struct.unpack_from("<I", image, 24)
        raised = fsw & ~fcw if vector == Vector.MF else mxcsr & ~(mxcsr >> 7)
        return next((code for flags, code in _FPE_CODES if raised & flags), _FPE_FLTUNK)
