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
    """Counts from `date`, the CLOCK_REALTIME of the first instruction; `instructions` returns those executed so far."""

    is_virtual = True

    def __init__(self, instructions: Callable[[], int], date: int) -> None:
        self._instructions = instructions
        self._counted: int | None = None  # of instructions, as long as none has been executed since
        self._date = date - _UPTIME
        self._extra = _UPTIME
        self._skipped = _UPTIME  # of it, what no task used

    def now(self, clock: int = MONOTONIC) -> int:
        """Return the time of a clock by its number, other than those of processor time."""
        if self._counted is None:
            self._counted = self._instructions()
        passed = self._extra + self._counted * INSTRUCTION
        return passed + self._date if clock in _DATES else passed

    def ran(self) -> None:
        """Instructions were executed since."""
        self._counted = None

    def busy(self) -> int:
        """Return the time in which a task ran."""
        return self.now() - self._skipped

    def pass_call(self) -> None:
        """A system call was made."""
        self._extra += SYSTEM_CALL

    def skip_to(self, moment: int) -> None:
        """Nobody has anything to do until `moment`: let it be there."""
        left = max(moment - self.now(), 0)
        self._extra += left
        self._skipped += left


class HostClock:
    """The host's clocks."""

    is_virtual = False

    def now(self, clock: int = MONOTONIC) -> int:
        """Return the time of a clock by its number."""
        return time.clock_gettime_ns(clock)

    def ran(self) -> None:
        """The host's time has passed by itself."""

    def busy(self) -> int:
        """Return the time for which the host ran the guest."""
        return time.process_time_ns()

    def pass_call(self) -> None:
        """The host's time has passed by itself."""

    def skip_to(self, moment: int) -> None:
        """Nothing: who waits, waits."""
