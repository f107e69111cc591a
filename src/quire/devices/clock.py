"""The time of a machine guest, in nanoseconds since it was switched on: virtual, by the instructions of its vCPUs.

So that a run is deterministic, and a guest whose vCPUs all wait jumps to what they wait for. vCPUs that are at work run
side by side: of several, an instruction of one takes its share. The time-stamp counter ticks once a nanosecond.
"""

import math
from collections.abc import Sequence
from typing import Protocol

__all__ = ["CRYSTAL_HZ", "TSC_HZ", "Clock", "MachineClock", "Pace"]

#: Ticks of the time-stamp counter a second: one a nanosecond.
TSC_HZ = 1_000_000_000
#: Of the crystal by which the timers of local APICs count (CPUID leaf 15H).
CRYSTAL_HZ = 25_000_000
#: Parts of a nanosecond in which time is kept, so that short turns of up to 16 vCPUs take theirs.
_PARTS = math.lcm(*range(1, 17))


class Clock(Protocol):
    """Who tells a device the time."""

    share: int  #: how many instructions the vCPU at work executes in a nanosecond, since others run beside it

    def now(self) -> int:
        """Return the nanoseconds since the machine was switched on."""
        ...

    def spend(self, nanoseconds: int) -> None:
        """Something took so long that no instruction accounts for."""
        ...


class Pace(Protocol):
    """A vCPU, as far as time passes with what it does."""

    def instructions(self) -> int:
        """Return how many instructions were executed."""
        ...

    def tsc_time(self) -> int:
        """Return the nanoseconds that reads of the time-stamp counter took which nobody heard of."""
        ...


class MachineClock:
    """Of vCPUs that go at these `paces`. Of :attr:`share` at work, an instruction takes that part of a nanosecond."""

    def __init__(self, paces: Sequence[Pace]) -> None:
        self._paces = paces
        self._passed = 0  # in parts of a nanosecond
        self._at_work = paces[0]
        self._begun = self._read = 0  # what the vCPU at work had executed and read when its turn began
        self.share = 1

    def now(self) -> int:
        """Return the nanoseconds since the machine was switched on."""
        return self._parts() // _PARTS

    def begin_turn(self, number: int, at_work: int) -> None:
        """vCPU `number` runs from now on, one of so many that are `at_work`."""
        self._passed = self._parts()
        self._at_work = one = self._paces[number]
        self._begun, self._read, self.share = one.instructions(), one.tsc_time(), max(at_work, 1)

    def spend(self, nanoseconds: int) -> None:
        """Something took so long that no instruction accounts for."""
        self._passed += nanoseconds * _PARTS

    def skip_to(self, moment: int) -> None:
        """Nobody has anything to do until `moment`."""
        self._passed += max(moment - self.now(), 0) * _PARTS

    def _parts(self) -> int:
        one = self._at_work
        executed = (one.instructions() - self._begun) * (_PARTS // self.share)
        return self._passed + executed + (one.tsc_time() - self._read) * _PARTS
