"""What a process used, and each of its threads: processor time, page faults, memory. Times are in ns.

Quire's own process uses more; that is not the guest's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from quire.guest.mm.address_space import AddressSpace

__all__ = ["Usage", "process_clock", "process_of_clock", "thread_clock", "thread_of_clock"]

_A_THREADS = 4


def thread_clock(tid: int) -> int:
    """Return the number of the clock of a thread's processor time, as Linux and the C library make it."""
    return ~tid << 3 | 6


def thread_of_clock(clock: int) -> int:
    """Return the number of the thread, or of the process, that is in the number of a clock of processor time."""
    return ~(clock >> 3)


def process_clock(pid: int) -> int:
    """Return the number of the clock of another process's time."""
    return ~pid << 3 | 2


def process_of_clock(clock: int) -> int | None:
    """Return the number of the process whose time a clock tells by its number, None for every other clock."""
    return thread_of_clock(clock) if clock < 0 and not clock & _A_THREADS else None


@dataclass(slots=True)
class _Own:
    """What one thread used in the turns that have ended, and what the counts were when the one at hand began."""

    ran: int = 0
    faults: int = 0
    since: tuple[int, int] | None = None


@dataclass(slots=True)
class Usage:
    """Counts from the moment it is made. `busy` returns the processor time that all tasks used so far, in ns."""

    space: AddressSpace
    busy: Callable[[], int]
    ran: int = 0  #: ns that its threads ran, but for the turn at hand
    since: int | None = None  #: what `busy` was when the turn at hand began
    _threads: dict[int, _Own] = field(default_factory=dict)  # by their numbers
    _faults: int = 0  # in address spaces that it had before
    _peak: int = 0

    def begin_turn(self, tid: int) -> None:
        """The thread `tid` of the process runs from now on."""
        if self.since is None:
            self.since = self.busy()
            self._threads.setdefault(tid, _Own()).since = self.since, self.faults

    def end_turn(self, tid: int) -> None:
        """Another thread runs from now on."""
        if self.since is None:
            return
        now = self.busy()
        self.ran += now - self.since
        self.since = None
        own = self._threads.get(tid)
        if own is not None and own.since is not None:
            own.ran, own.faults = own.ran + now - own.since[0], own.faults + self.faults - own.since[1]
            own.since = None

    def leave(self, tid: int) -> None:
        """The thread `tid` has ended."""
        self._threads.pop(tid, None)

    def rename(self, tid: int, to: int) -> None:
        """The thread `tid` has the number `to` from now on: execve, of which the one before has ended."""
        self._threads[to] = self._threads.pop(tid, _Own())

    def thread_time(self, tid: int) -> int:
        """Return the processor time that a thread took, in ns; 0 for one that has ended."""
        own = self._threads.get(tid, _Own())
        return own.ran + (0 if own.since is None else self.busy() - own.since[0])

    def thread_faults(self, tid: int) -> int:
        """Return the page faults that were resolved for a thread."""
        own = self._threads.get(tid, _Own())
        return own.faults + (0 if own.since is None else self.faults - own.since[1])

    def at(self, clock: int) -> int:
        """Return the time of the clock of the process, or of that of one of its threads."""
        return self.thread_time(thread_of_clock(clock)) if clock < 0 else self.time()

    def time(self) -> int:
        """Return the processor time that it took, in ns."""
        return self.ran + (0 if self.since is None else self.busy() - self.since)

    def replace(self, space: AddressSpace) -> None:
        """It has another address space from now on."""
        self._faults, self._peak = self.faults, self.peak
        self.space = space

    @property
    def faults(self) -> int:
        """Page faults that the kernel resolved; none of them waited for a disk."""
        return self._faults + self.space.faults

    @property
    def peak(self) -> int:
        """The most bytes that had a frame at a time."""
        return max(self._peak, self.space.pages.peak_bytes)
