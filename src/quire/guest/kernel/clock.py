"""The guest's time. By default it is virtual: it passes with instructions and system calls, and jumps where all wait.

So what a program sees of time is the same in every run, as far as only the program decides. Times are in ns.
"""

import time
from collections.abc import Callable

__all__ = ["HostClock", "VirtualClock"]

REALTIME, MONOTONIC = time.CLOCK_REALTIME, time.CLOCK_MONOTONIC
#: CLOCK_REALTIME, its coarse form, its alarm, CLOCK_TAI: they tell the date.
_DATES = frozenset((0, 5, 8, 11))
#: What an instruction takes, and what a system call takes beside its own.
INSTRUCTION, SYSTEM_CALL = 1, 1000
#: CLOCK_MONOTONIC of the first instruction: the guest's machine has been up for a while.
_UPTIME = 3600 * 1_000_000_000


class VirtualClock:
    """Counts from `date`, the CLOCK_REALTIME of the first instruction, by the `instructions` of the vCPU at work.

    Each of `vcpus` has a time of its own, so that they run side by side; what is read never goes back.
    """

    is_virtual = True

    def __init__(self, instructions: Callable[[], int], date: int, vcpus: int = 1) -> None:
        self._instructions = instructions
        self._counted: int | None = None  # of instructions, as long as none has been executed since
        self.date = date
        self._date = date - _UPTIME
        self._number = 0  # of the vCPU at work
        self._extra = [_UPTIME] * vcpus
        self._skipped = [_UPTIME] * vcpus  # of it, what no task used
        self._seen = [0] * vcpus  # instructions of those that are not at work
        self._latest = 0
        self.begun = _UPTIME  #: CLOCK_MONOTONIC of the first instruction

    def now(self, clock: int = MONOTONIC) -> int:
        """Return the time of a clock by its number, other than those of processor time."""
        passed = self._latest = max(self._latest, self.at(self._number))
        return passed + self._date if clock in _DATES else passed

    def at(self, number: int) -> int:
        """Return the time of one vCPU."""
        if number != self._number:
            return self._extra[number] + self._seen[number] * INSTRUCTION
        if self._counted is None:
            self._counted = self._instructions()
        return self._extra[number] + self._counted * INSTRUCTION

    def go_to(self, number: int, work: Callable[[], None]) -> None:
        """Have vCPU `number` be at work from now on, which `work` does."""
        self.at(self._number)
        self._seen[self._number] = self._counted or 0
        work()
        self._number, self._counted = number, None

    def begin_at(self, moment: int) -> None:
        """The vCPU at work had nothing to do until `moment`."""
        left = max(moment - self.at(self._number), 0)
        self._extra[self._number] += left
        self._skipped[self._number] += left

    def ran(self) -> None:
        """Instructions were executed since."""
        self._counted = None

    def busy(self) -> int:
        """Return the time in which tasks ran, on all vCPUs."""
        return sum(self.at(number) - skipped for number, skipped in enumerate(self._skipped))

    def pass_call(self) -> None:
        """A system call was made."""
        self._extra[self._number] += SYSTEM_CALL

    def skip_to(self, moment: int) -> None:
        """Nobody has anything to do until `moment`: let it be there."""
        self.begin_at(moment)


class HostClock:
    """The host's clocks."""

    is_virtual = False

    def __init__(self) -> None:
        self.begun = self.now()  #: CLOCK_MONOTONIC of the first instruction

    def now(self, clock: int = MONOTONIC) -> int:
        """Return the time of a clock by its number."""
        return time.clock_gettime_ns(clock)

    def at(self, number: int) -> int:
        """Return 0: all vCPUs have one time."""
        return 0

    def go_to(self, number: int, work: Callable[[], None]) -> None:
        """Have another vCPU be at work from now on, as `work` does it."""
        work()

    def begin_at(self, moment: int) -> None:
        """Nothing: until then the host's time has passed by itself."""

    def ran(self) -> None:
        """The host's time has passed by itself."""

    def busy(self) -> int:
        """Return the time for which the host ran the guest."""
        return time.process_time_ns()

    def pass_call(self) -> None:
        """The host's time has passed by itself."""

    def skip_to(self, moment: int) -> None:
        """Nothing: who waits, waits."""
