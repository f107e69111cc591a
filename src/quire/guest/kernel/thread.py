"""One thread: what it reaches of its process, and how it gets the vCPU and lets it go."""

from abc import abstractmethod
from collections.abc import Callable

from quire.guest.kernel.calls import Calls
from quire.guest.kernel.frame import Trap
from quire.guest.kernel.group import Process
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.meter import Meter, Tally
from quire.guest.kernel.rseq import Rseq
from quire.guest.kernel.siginfo import GuestDeath
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.system import Kernel
from quire.guest.kernel.timers import Timers
from quire.guest.kernel.usage import Usage
from quire.guest.load.launch import Program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.uaccess import UserMemory
from quire.guest.syscalls.state import thread_state

__all__ = ["Thread"]


class Thread(Calls):
    """Of a process of the guest; a part of :class:`quire.guest.kernel.process.ProcessGuest`."""

    def join(self, kernel: Kernel, process: Process, tid: int, signals: Signals) -> None:
        """Be the thread `tid` of `process`."""
        self.kernel, self.process, self.tid, self.signals = kernel, process, tid, signals
        self.trap = Trap()  #: the last fault, as a signal frame reports it
        self.ended = False
        self.meter = Meter()
        self._since: Tally | None = None  # what the vCPU had counted when its turn began
        self._saved: object | None = None
        self._room: object | None = None  # where its registers were kept before
        self._held = 0  # translations that the TLBs had of its own when its registers were kept
        self._starts: list[Callable[[], None]] = []
        self.rseq: Rseq | None = None  #: what it registered of restartable sequences
        self._begin_calls()
        process.threads[tid] = self
        process.threads_made += 1
        kernel.enter(self)

    @abstractmethod
    def end_thread(self) -> None:
        """End, and leave the process to the others."""

    @property
    def machine(self) -> ProcessMachine:
        """The vCPU that the thread runs on, and the memory of its process."""
        return self.process.image.machine

    @property
    def space(self) -> AddressSpace:
        """The address space."""
        return self.process.image.space

    @property
    def memory(self) -> UserMemory:
        """The same memory as the kernel reads and writes it."""
        return self.process.image.memory

    @property
    def program(self) -> Program:
        """The program that runs."""
        return self.process.image.program

    @property
    def bias(self) -> int:
        """By how much the program's addresses moved."""
        return self.process.image.bias

    @property
    def timers(self) -> Timers:
        """The timers of the process."""
        return self.process.timers

    @property
    def usage(self) -> Usage:
        """What the process used."""
        return self.process.usage

    @property
    def exit_status(self) -> int | None:
        """What the process gave exit."""
        return self.process.exit_status

    @property
    def death(self) -> GuestDeath | None:
        """The signal that ended the process."""
        return self.process.death

    @property
    def finished(self) -> bool:
        """Whether the process has exited or died."""
        return self.process.ended

    @property
    def affinity(self) -> int:
        """The vCPUs that may run it, a bit each."""
        return thread_state(self).affinity

    def enter(self, previous: "Thread | None") -> None:
        """Load its registers and its address space, in the place of those of `previous`, which may have ended.

        None if the vCPU has its registers already, or nobody's.
        """
        machine = self.machine
        if previous is not None:
            previous.leave()
            self._since = previous.rest()
        if not machine.loaded:
            machine.load()
        if self._saved is not None:
            machine.registers.load(self._saved)
            self._room, self._saved = self._saved, None
            self.meter.switches += 1
            self.meter.refills += max(self._held - machine.held(), 0)
        if self._since is None:
            self._since = machine.tally()
        self.process.usage.begin_turn(self.tid)

    def leave(self) -> None:
        """Keep its registers: another vCPU is to have them."""
        self._saved, self._held = self.machine.registers.save(self._room), self.machine.held()
        if self.rseq is not None:
            self.rseq.release()

    def rest(self) -> Tally | None:
        """The vCPU that it is on is not at work any more, or not for it; return what that has counted, if it was."""
        now = None
        if self._since is not None:
            now = self.machine.tally()
            self.meter.add(self._since, now)
            self._since = None
        self.process.usage.end_turn(self.tid)
        return now

    def come_back(self) -> None:
        """Have the address space loaded, and the registers that it had: for who looks when the guest has ended."""
        self.enter(None)

    def resume(self) -> bool:
        """Go on in its call, take signals; return whether it runs then."""
        self._release_slots()
        if self.ended or self.process.stopped:
            return False
        self.runs = True
        while self._starts:
            self._starts.pop(0)()
        if self._call is not None:
            self._call_again()
        elif self.runs:
            self.deliver_signals()
        return self.runs
