"""The time of a machine guest, in nanoseconds since it was switched on: virtual, by the instructions of its vCPUs.

So that a run is deterministic, and a guest whose vCPUs all wait jumps to what they wait for. vCPUs that are at work run
side by side: of several, an instruction of one takes its share. The time-stamp counter ticks once a nanosecond.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["CRYSTAL_HZ", "TSC_HZ", "Clock", "MachineClock"]

#: Ticks of the time-stamp counter a second: one a nanosecond.
TSC_HZ = 1_000_000_000
#: Of the crystal by which the timers of local APICs count (CPUID leaf 15H).
CRYSTAL_HZ = 25_000_000


class Clock(Protocol):
    """Who tells a device the time."""

    def now(self) -> int:
        """Return the nanoseconds since the machine was switched on."""
        ...

    def spend(self, nanoseconds: int) -> None:
        """Something took so long that no instruction accounts for."""
        ...


class MachineClock:
    """Of the vCPUs whose executed instructions `counters` return."""

    def __init__(self, counters: Sequence[Callable[[], int]]) -> None:
        self._counters = counters
        self._passed = 0
        self._number = self._begun = 0  # the vCPU at work, its instructions when its turn began
        self._share = 1

    def now(self) -> int:
        """Return the nanoseconds since the machine was switched on."""
        return self._passed + (self._counters[self._number]() - self._begun) // self._share

    def begin_turn(self, number: int, at_work: int) -> None:
        """vCPU `number` runs from now on, one of so many that are `at_work`."""
        self._passed = self.now()
        self._number, self._begun, self._share = number, self._counters[number](), max(at_work, 1)

    def spend(self, nanoseconds: int) -> None:
        """Something took so long that no instruction accounts for."""
        self._passed += nanoseconds

    def skip_to(self, moment: int) -> None:
        """Nobody has anything to do until `moment`."""
        self._passed += max(moment - self.now(), 0)
