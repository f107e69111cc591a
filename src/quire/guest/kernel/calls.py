"""How a thread makes its system calls: from registers to the table and back, and how one that waits is put aside.

A call that waits is a record: its number, its arguments, what it waits for. It is made again as a whole when something
wakes it; what it has to remember until then, such as the moment at which it ends, is in `kept`.
"""

import errno
import os
import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from quire.arch import LOW32
from quire.guest.kernel.group import Process
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.system import Kernel
from quire.guest.kernel.waiting import Blocks, Waiter
from quire.guest.syscalls import AGAIN, NO_RESULT, RESTART, dispatch, syscall_name
from quire.guest.syscalls.i386 import I386_REGISTERS, dispatch_i386, i386_name
from quire.guest.syscalls.table import Result

__all__ = ["Calls"]

_SYSCALL = ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9", "rip", "rflags")
#: Above every system call number of Linux.
_SYSCALL_NUMBERS = 1024
#: After so many ns a call looks again at descriptors that cannot be watched.
_LOOK_AGAIN = 1_000_000


class _Call(NamedTuple):
    """A system call of the 64-bit table, or of the 32-bit one."""

    number: int
    arguments: tuple[int, ...]
    old: bool = False
    rip: int = 0  #: where SYSCALL came from, which leaves it in RCX, and RFLAGS in R11; of the 64-bit table
    rflags: int = 0


class Calls(ABC):
    """The calls of one thread; a part of :class:`quire.guest.kernel.process.ProcessGuest`."""

    kernel: Kernel
    process: Process
    signals: Signals
    tid: int
    runs: bool  #: whether it goes on when the kernel has done its work: it neither waits, nor is stopped, nor has ended
    home: int  #: the vCPU that it ran on last
    ready_at: int  #: the moment since which it could run
    until: int | None  #: the moment at which its call has waited long enough
    _restart: int | None

    def _begin_calls(self) -> None:
        """It has made no call so far."""
        self.kept: dict[str, int] = {}
        self.waiters: tuple[Waiter, ...] = ()  #: of the call at hand: which of them were woken
        self.until = None
        self.blocked = False
        self.runs = True
        self._restart = None
        self._call: _Call | None = None
        self._answer: int | None = None  # of the call that waits, once a queue has woken it
        self._unbroken = False
        self._slots: list[int] = []
        self.awaits = 0
        self.home = self.ready_at = 0
        self._names: dict[int, str] = {}

    @property
    @abstractmethod
    def machine(self) -> ProcessMachine:
        """The vCPU, and the memory of the process."""

    @property
    @abstractmethod
    def affinity(self) -> int:
        """The vCPUs that may run it, a bit each."""

    @abstractmethod
    def enter(self, previous: Any) -> None:
        """Load its registers and its address space, in the place of those of `previous`."""

    @abstractmethod
    def leave(self) -> None:
        """Keep its registers: another vCPU is to have them."""

    @abstractmethod
    def rest(self) -> object:
        """The vCPU that it is on is not at work any more, or not for it."""

    @abstractmethod
    def resume(self) -> bool:
        """Go on in its call, take signals; return whether it runs then."""

    @abstractmethod
    def deliver_signals(self) -> None:
        """Act on waiting signals."""

    @property
    def seat(self) -> Seat:
        """Where its calls are made."""
        return self.process.seat

    @property
    def woken(self) -> bool:
        """Whether what the call at hand waited for woke it, in a queue."""
        return any(waiter.woken for waiter in self.waiters)

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
                self._names[known] = name
        self._count(name)
        self._do(_Call(number, (rdi, rsi, rdx, r10, r8, r9), False, rip, rflags))

    def syscall_i386(self) -> None:
        """Do the call of the 32-bit table that the registers ask for: of them, only RAX is changed."""
        registers = self.machine.registers
        number, *arguments = (value & LOW32 for value in registers.read_many(I386_REGISTERS))
        self._count(i386_name(number))
        self._do(_Call(number, tuple(arguments), old=True))

    def _count(self, name: str) -> None:
        counts = self.kernel.syscall_counts
        counts[name] = counts.get(name, 0) + 1
        self.kernel.clock.pass_call()

    def _do(self, call: _Call) -> None:
        """Make a call, or make it again; put it aside if it waits."""
        try:
            if call.old:
                result = dispatch_i386(self, call.number, call.arguments)  # type: ignore[arg-type]
            else:
                result = dispatch(self, call.number, call.arguments)  # type: ignore[arg-type]
        except Blocks as wait:
            if not self._breaks(wait.unbroken):
                self._put_aside(call, wait)
                return
            result = self.kept.get("moved") or (RESTART if wait.restarts else -errno.EINTR)
        if result is AGAIN:
            self._call, self.runs = call, False
            self.kernel.scheduler.goes_first(self)
        else:
            self._end_call(call, result)

    def _end_call(self, call: _Call, result: Result) -> None:
        if self.kept:
            self.kept = {}
        self.awaits = 0
        self.waiters = ()
        if result is RESTART:
            self._restart = call.number
            if not call.old:
                self.machine.registers.write_many({"rcx": call.rip, "r11": call.rflags})
        elif result is not NO_RESULT:
            assert isinstance(result, int)
            written = {"rax": result} if call.old else {"rax": result, "rcx": call.rip, "r11": call.rflags}
            self.machine.registers.write_many(written)
        self.deliver_signals()

    def _breaks(self, unbroken: bool) -> bool:
        """Whether a signal ends the call that is about to wait."""
        return self.signals.fatal if unbroken else self.signals.deliverable

    def _put_aside(self, call: _Call, wait: Blocks) -> None:
        """Have the thread wait for what `wait` says, and other tasks run."""
        scheduler = self.kernel.scheduler
        self._call, self._unbroken, self.until = call, wait.unbroken, wait.until
        self._answer = wait.answer
        self.blocked, self.runs = True, False
        self.waiters = tuple(Waiter(self._wake, tag) for _, tag in wait.queues)
        for waiter, (queue, _) in zip(self.waiters, wait.queues, strict=True):
            queue.add(waiter)
        self._watch(wait.files)
        if self.until is not None:
            scheduler.waiting[self] = None

    def _watch(self, files: tuple[tuple[int, int], ...]) -> None:
        """Be woken by descriptors; where there are more than can be watched, look at them every now and then."""
        try:
            for descriptor, events in files:
                slot = self.kernel.scheduler.watch(self, descriptor, events)
                if slot is not None:
                    self._slots.append(slot)
                    self.seat.table.slots.add(slot)
        except OSError:
            self._release_slots()
            soon = self.kernel.clock.now() + _LOOK_AGAIN
            self.until = soon if self.until is None else min(self.until, soon)
            time.sleep(_LOOK_AGAIN / 1e9)

    def _wake(self) -> None:
        self._rouse()

    def time_is_over(self) -> None:
        """The moment :attr:`until` has come."""
        self._rouse()

    def is_ready(self) -> None:
        """A descriptor that its call waits for is ready."""
        self._rouse()

    def notice(self) -> None:
        """Look at a signal that was sent: a call that waits ends for it."""
        if self.blocked and (self._breaks(self._unbroken) or self.signals.pending & self.awaits):
            self._rouse()

    def looks_again(self) -> None:
        """What descriptors say to the process may have changed: a call that watches some is made again."""
        if self._slots:
            self._rouse()

    def yields(self) -> None:
        """Let others run that can, before this one does again."""
        if self.kernel.scheduler.yields(self):
            self.runs = False

    def moves(self) -> bool:
        """Run on a vCPU that may run it; return whether it had its turn on one that may not."""
        return self.kernel.scheduler.move(self)

    def goes_on(self) -> None:
        """The process is stopped no longer."""
        if not self.blocked and self not in self.kernel.scheduler:
            self.kernel.scheduler.add(self)

    def _rouse(self) -> None:
        """Let the thread run again, for the call that waits to be made again."""
        if not self.blocked:
            return
        self.blocked = False
        self._stop_waiting()
        if not self.process.stopped:
            self.kernel.scheduler.add(self)

    def _stop_waiting(self) -> None:
        self.kernel.scheduler.waiting.pop(self, None)
        for waiter in self.waiters:
            waiter.leave()

    def _release_slots(self) -> None:
        """Let go of the descriptors by which it waited: at its own seat."""
        for slot in self._slots:
            self.kernel.scheduler.unwatch(slot)
            self.seat.table.slots.discard(slot)
            os.close(slot)
        self._slots.clear()

    def _call_again(self) -> None:
        """Make the call again that waited, if there is one."""
        call, self._call = self._call, None
        if call is None:
            return
        if self._answer is not None and self.woken:
            self._end_call(call, self._answer)
        else:
            self._do(call)
