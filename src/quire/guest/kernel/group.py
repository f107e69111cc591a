"""A process of the guest: what its threads share, and what is left of it until its parent has asked how it ended.

Models the thread group of Linux (include/linux/sched/signal.h). It knows its threads by what it needs of them.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from quire.guest.kernel.actions import signal_bit
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.kernel.meter import Meter
from quire.guest.kernel.rseq import Rseq
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.siginfo import GuestDeath, SignalInfo
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.terminal import Terminal
from quire.guest.kernel.timers import Timers
from quire.guest.kernel.usage import Usage, process_of_clock
from quire.guest.kernel.waiting import WaitQueue
from quire.guest.load.launch import Program
from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.uaccess import UserMemory

__all__ = ["INIT", "Change", "Image", "Process", "ProcessThread", "loaded", "timers_of"]

#: Quire itself: the parent of the first process, and of those whose own has gone.
INIT = 1
#: What wait4 writes of a process that goes on.
_CONTINUED = 0xFFFF


class ProcessThread(Protocol):
    """One thread, as its process knows it."""

    tid: int
    signals: Signals
    process: "Process"
    runs: bool
    awaits: int  #: signals that its call waits for though it blocks them
    meter: Meter
    blocked: bool  #: whether it waits in a call
    rseq: Rseq | None  #: what it registered of restartable sequences

    @property
    def ended(self) -> bool:
        """Whether it has exited."""
        ...

    def end_thread(self) -> None:
        """End, and leave the process to the others."""
        ...

    def goes_on(self) -> None:
        """The process is stopped no longer."""
        ...

    def moves(self) -> bool:
        """Run on a vCPU that may run it; return whether it had its turn on one that may not."""
        ...

    def notice(self) -> None:
        """Look at a signal that was sent: a call that waits ends for it."""
        ...

    def looks_again(self) -> None:
        """What descriptors say to the process may have changed: a call that watches some is made again."""
        ...


class Change(Enum):
    """What a parent may ask about: si_code of SIGCHLD (include/uapi/asm-generic/siginfo.h)."""

    EXITED = 1
    KILLED = 2
    DUMPED = 3
    TRAPPED = 4
    STOPPED = 5
    CONTINUED = 6


@dataclass(eq=False, slots=True)
class Image:
    """What execve replaces: the address space with its program. vfork and CLONE_VM have two processes use one."""

    machine: ProcessMachine
    space: AddressSpace
    memory: UserMemory
    program: Program
    bias: int = 0
    file: tuple[int, int] | None = None  #: device and inode of the program's file
    users: int = 1  #: processes that use it
    concurrent: list[Rseq | None] = field(default_factory=list)  #: which thread has which number of rseq(2)


@contextmanager
def loaded(image: Image) -> Iterator[UserMemory]:
    """Have the address space of `image` be the one that the kernel reaches; the one before comes back."""
    machine = image.machine
    before = None if machine.loaded else machine.loaded_one()
    if before is not None:
        machine.load()
    try:
        yield image.memory
    finally:
        if before is not None:
            before.load()


@dataclass(eq=False, slots=True, weakref_slot=True)
class Process:
    """The process `pid`, child of `parent`, which is None for the first. Its calls are made at `seat`."""

    pid: int
    parent: "Process | None"
    image: Image
    seat: Seat
    timers: Timers
    usage: Usage
    group: int = 0  #: number of its process group
    session: int = 0
    terminal: Terminal | None = None  #: the one that controls it
    exit_signal: int = signal.SIGCHLD
    children: dict[int, "Process"] = field(default_factory=dict)
    threads: dict[int, ProcessThread] = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)  #: of its first thread, whose queue all share
    exit_status: int | None = None  #: what it gave exit
    death: GuestDeath | None = None  #: the signal that ended it
    stopped: int = 0  #: the signal that stopped it, 0 while it runs
    executed: bool = False  #: whether it has called execve
    subreaper: bool = False
    changes: list[tuple[Change, int]] = field(
        default_factory=list
    )  #: stops and goings-on nobody has asked about
    waiting: WaitQueue = field(default_factory=WaitQueue)  #: calls that wait for its children
    vfork: WaitQueue = field(default_factory=WaitQueue)  #: its parent, until it has its own memory
    borrows: bool = False  #: whether its parent waits in :attr:`vfork`
    threads_made: int = 0
    meter: Meter = field(default_factory=Meter)  #: what threads used that have ended
    children_time: int = 0  #: ns of processor time of children that were waited for
    children_faults: int = 0
    children_peak: int = 0

    def used(self) -> Meter:
        """Return what all of its threads used, but for the turns at hand."""
        found = replace(self.meter)
        for one in self.live():
            found.join(one.meter)
        return found

    @property
    def parent_pid(self) -> int:
        """The number of its parent."""
        return INIT if self.parent is None else self.parent.pid

    @property
    def ended(self) -> bool:
        """Whether it is over: what is left tells how."""
        return self.exit_status is not None or self.death is not None

    @property
    def leader(self) -> ProcessThread:
        """Its first thread, though that may have exited."""
        return self.threads[self.pid]

    @property
    def ending(self) -> tuple[Change, int]:
        """How it ended, and the status or the signal."""
        if self.death is not None:
            return Change.KILLED, self.death.signo
        return Change.EXITED, self.exit_status or 0

    def status(self, change: Change, number: int) -> int:
        """Return a change as wait4 writes it."""
        if change is Change.EXITED:
            return number << 8
        if change is Change.STOPPED:
            return number << 8 | 0x7F
        return _CONTINUED if change is Change.CONTINUED else number

    def live(self) -> Iterator[ProcessThread]:
        """Yield the threads that have not exited, the first first."""
        return (one for one in list(self.threads.values()) if not one.ended)

    def send(self, info: SignalInfo) -> bool:
        """Send a signal to whichever thread takes it first; False when too many wait. One that has ended gets none."""
        if self.ended:
            return True
        if not self.signals.queue_shared(info):
            return False
        bit = signal_bit(info.signo)
        takers = (one for one in self.live() if not one.signals.mask & bit or one.awaits & bit)
        for one in takers:
            one.notice()
            break
        return True


def timers_of(now: Callable[[int], int], usage: Usage, processes: Mapping[int, Process]) -> Timers:
    """Return timers for a process of which `usage` tells; those on clocks of others stand when they have gone.

    `now` tells the clocks that are not of processor time.
    """

    def used(clock: int) -> int:
        number = process_of_clock(clock)
        if number is None:
            return usage.at(clock)
        return processes[number].usage.time() if number in processes else 0

    return Timers.of(now, used)
