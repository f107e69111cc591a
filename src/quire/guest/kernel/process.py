"""A process guest: one Linux program, and Quire as the kernel that it calls.

Ties the address space, user memory, signals and system calls of one process to its machine. The vCPU's loop
calls :meth:`ProcessGuest.page_fault`, :meth:`~ProcessGuest.exception` and :meth:`~ProcessGuest.syscall` at
the matching exits and enters the guest again until it is `finished`. Contract: nothing that the guest does
raises; its end is `exit_status` or `death`. Not thread-safe.
"""

import random
import signal
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from quire.arch import DR6, GENERAL, LOW32, PAGE_SHIFT, RFLAGS, Vector, describe_page_fault
from quire.guest.kernel.actions import SA_RESTART, SigAction
from quire.guest.kernel.delivery import deliver
from quire.guest.kernel.frame import INITIAL_FPU, Trap
from quire.guest.kernel.host_memory import HostMemory
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.outside import Nowhere, Outside
from quire.guest.kernel.siginfo import BUS_ADRALN, SI_KERNEL, GuestDeath, SignalInfo
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.timers import Timers
from quire.guest.kernel.usage import Usage
from quire.guest.kernel.vsyscall import VSYSCALL_PAGE, call_vsyscall
from quire.guest.load.launch import Program
from quire.guest.load.loader import load_program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import UserMemory
from quire.guest.syscalls import NO_RESULT, RESTART, dispatch, syscall_name
from quire.guest.syscalls.channels import reclaim
from quire.guest.syscalls.i386 import I386_REGISTERS, dispatch_i386, i386_name

__all__ = ["GuestOptions", "ProcessGuest"]

_SYSCALL = ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9", "rip", "rflags")
_CLEARED = (*(name for name in GENERAL if name != "rsp"), "fs_base", "gs_base")
_VECTOR_NAMES = {int(vector): vector.name for vector in Vector}
_RFLAGS = RFLAGS.encode(always_1=1, IF=1)
_SYSCALL_BYTES = 2
#: Above every system call number of Linux.
_SYSCALL_NUMBERS = 1024
_EINTR = 4
#: Names of what a guest did not get are kept up to so many, then counted together.
_LACKS_KEPT, _MORE_LACKS = 100, "more system calls"
_FPE_INTDIV, _ILL_ILLOPN, _TRAP_BRKPT, _TRAP_TRACE = 1, 2, 1, 2
_INT80, _INT_BYTES = 0x80, 2
#: Vectors whose gates Linux lets programs call, beside that of system calls.
_USER_GATES = (Vector.BP, Vector.OF)
_IN_IDT = 2  # of an error code: the selector is a vector (SDM 3A §6.13)
#: si_code of a floating-point exception by the flag that is up and not masked, in the kernel's order.
_FPE_CODES = ((0x01, 7), (0x04, 3), (0x08, 4), (0x12, 5), (0x20, 6))
_FPE_FLTUNK = 14


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """How a guest runs. `hwcap` is CPUID.1:EDX, `cwd` where it starts, `seed` that of its randomness."""

    seed: int
    sandbox: bool
    cwd: str
    hwcap: int
    aslr: bool = True


class ProcessGuest:
    """The process that runs `program` on `machine` with the environment `environ`."""

    def __init__(
        self,
        machine: ProcessMachine,
        program: Program,
        environ: Mapping[bytes, bytes],
        options: GuestOptions,
    ) -> None:
        self.machine = machine
        self.program: Program = replace(
            program, envp=tuple(name + b"=" + value for name, value in environ.items())
        )
        self.options = options
        self.bias = 0  #: of the program's addresses, once it is loaded
        self.rng = random.Random(options.seed)
        self.space: AddressSpace = AddressSpace(machine, self.rng, aslr=options.aslr)
        self.memory: UserMemory = UserMemory(machine, self.space)
        self.signals: Signals = Signals()
        #: What the guest asked for and did not get: name and count, in the order of first use.
        self.unimplemented: dict[str, int] = {}
        #: Hears of each such name once, at the first time; the session sets it.
        self.tell_lack: Callable[[str], None] = _tell_nobody
        self.syscall_counts: dict[str, int] = {}
        self.exit_status: int | None = None
        self.death: GuestDeath | None = None
        #: The last fault, as a signal frame reports it.
        self.trap = Trap()
        #: Where signals come from; the session sets it.
        self.outside: Outside = Nowhere()
        self.timers: Timers = Timers()
        self.host_memory: HostMemory = HostMemory(machine)
        self.space.reclaim = lambda: reclaim(self)
        self.space.pages.pause = self._pause
        self.usage: Usage = Usage(self.space)
        self._restart: int | None = None
        self._names: dict[int, str] = {}

    @property
    def finished(self) -> bool:
        """Whether the process has exited or died."""
        return self.exit_status is not None or self.death is not None

    def start(self) -> None:
        """Load the program and set the registers it starts with. Raises LaunchError."""
        begin = load_program(
            self.space, self.memory, self.program, self.program.envp, self.rng, self.options.hwcap
        )
        self.bias = begin.bias
        registers = self.machine.registers
        registers.load_fpu(INITIAL_FPU)
        registers.write_many(
            dict.fromkeys(_CLEARED, 0) | {"rip": begin.rip, "rsp": begin.rsp, "rflags": _RFLAGS}
        )

    def lacks(self, name: str, *, ordinary: bool = False) -> None:
        """Count that the guest asked for `name` and was told ENOSYS; say so the first time, unless it is `ordinary`."""
        if len(self.unimplemented) >= _LACKS_KEPT and name not in self.unimplemented:
            name = _MORE_LACKS  # the guest chooses the numbers, and so how many names there are
        seen = self.unimplemented.get(name, 0)
        self.unimplemented[name] = seen + 1
        if not seen and not ordinary:
            self.tell_lack(name)

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
            self._syscall_i386()
        elif vector in _USER_GATES:
            self.exception(vector, 0)
        else:
            registers = self.machine.registers
            registers.write("rip", registers.read("rip") - _INT_BYTES)
            self.exception(Vector.GP, vector << 3 | _IN_IDT)

    def syscall(self) -> None:
        """Do the system call that the registers ask for; RIP is after the SYSCALL instruction."""
        registers = self.machine.registers
        number, rdi, rsi, rdx, r10, r8, r9, rip, rflags = registers.read_many(_SYSCALL)
        name = self._names.get(number)
        if name is None:
            # The guest chooses the number: those that no kernel has share one name.
            known = number & LOW32
            name = syscall_name(known) if known < _SYSCALL_NUMBERS else "unknown"
            if known < _SYSCALL_NUMBERS:
                self._names[number & LOW32] = name
        self.syscall_counts[name] = self.syscall_counts.get(name, 0) + 1
        result = dispatch(self, number, (rdi, rsi, rdx, r10, r8, r9))
        if result is RESTART:
            self._restart = number
            registers.write_many({"rcx": rip, "r11": rflags})
        elif result is not NO_RESULT:
            assert isinstance(result, int)
            registers.write_many({"rax": result, "rcx": rip, "r11": rflags})
        self.deliver_signals()

    def _syscall_i386(self) -> None:
        """Do the call of the 32-bit table that the registers ask for: of them, only RAX is changed."""
        registers = self.machine.registers
        number, *arguments = (value & LOW32 for value in registers.read_many(I386_REGISTERS))
        name = i386_name(number)
        self.syscall_counts[name] = self.syscall_counts.get(name, 0) + 1
        result = dispatch_i386(self, number, tuple(arguments))
        if result is RESTART:
            self._restart = number
        elif result is not NO_RESULT:
            assert isinstance(result, int)
            registers.write("rax", result)
        self.deliver_signals()

    def collect_signals(self) -> None:
        """Queue what came from outside and from timers meanwhile: a system call that waits looks for it."""
        for info in self.outside.take():
            self.signals.queue(info)
        moment = self.timers.moment()
        if moment is not None:
            self.timers.send_expired(self.signals)
            self.outside.wake_at(self.timers.moment())

    def _pause(self) -> None:
        """End work for the guest in which a signal found it that will kill it. Raises OSError (EINTR)."""
        self.collect_signals()
        if self.signals.fatal:
            raise InterruptedError(_EINTR, "a signal ends the process")

    def deliver_signals(self) -> None:
        """Act on waiting signals; every return to the guest runs this."""
        if self.finished:
            return
        if self.space.exhausted is not None:
            rip = self.machine.registers.read("rip")
            info = self.space.exhausted
            self.death = GuestDeath(info.signo, info.code, 0, rip, f"SIGKILL: {info.text}")
            return
        self.death = deliver(self)

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


def _tell_nobody(name: str) -> None:
    """Take the name of what the guest did not get."""
