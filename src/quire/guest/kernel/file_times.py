"""Times of files, as a guest sees them: files have the host's times, which these show on the guest's clock.

What the guest changes is stamped by the host, at a moment of its clock. The guest's time then is kept with that moment,
so that a stamp of this run is shown as that time: never later than now, in the order of the changes, and the
same in every run. All stamps of one tick of the host's clock are of one tick of the guest's: where the guest's has gone
on sooner, as it does where all sleep, a change waits for the host's next. Times are in ns since 1970.
"""

import time
from bisect import bisect_right
from typing import Protocol

from quire.guest.kernel.clock import HostClock, VirtualClock

__all__ = ["FileTimes", "GuestFileTimes", "HostFileTimes", "file_times"]

#: How fine the guest's kernel stamps files: a jiffy of 250 Hz.
TICK = 4_000_000
#: What is kept of moments, and of times that the guest gave to files: the guest makes as many as it likes.
_MOMENTS, _KEPT = 1 << 16, 1 << 16
#: The host's clock ticks in 10 ms at most; one that does not is not waited for.
_WAIT, _WAITS = 0.0005, 60
#: What the host stamps files with (CLOCK_REALTIME_COARSE), unless somebody looked at the time since the last change.
_COARSE = 5


class FileTimes(Protocol):
    """How a guest sees the times of the host's files."""

    def begin(self) -> bool:
        """A call begins that may change files; return whether its stamps can be told from those before."""
        ...

    def delay(self) -> None:
        """Have what the call stamps be later than what was stamped before."""
        ...

    def end(self) -> None:
        """The call is done, and has stamped all that it will."""
        ...

    def keep(self, moment: int) -> None:
        """The guest gave a file this time, in ns: it is shown as it is."""
        ...

    def shown(self, stamp: int) -> int:
        """Return what the guest sees of a file's time, both in ns."""
        ...


class HostFileTimes:
    """The host's own times: the guest has the host's clock."""

    def begin(self) -> bool:
        """Return True: each stamp is what it is."""
        return True

    def delay(self) -> None:
        """Nothing is waited for."""

    def end(self) -> None:
        """Nothing is kept."""

    def keep(self, moment: int) -> None:
        """Each time is shown as it is."""

    def shown(self, stamp: int) -> int:
        """Return the stamp."""
        return stamp


class GuestFileTimes:
    """Times on `clock`, whose date was the host's when the guest began."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        # From the host's moment `starts` to `ends` it was the tick `ticks` of the guest's; in order, and never empty.
        self._starts, self._ends, self._ticks = [clock.date], [clock.date], [clock.date]
        self._open = True  # whether what is stamped now belongs to the last of them
        self._kept: dict[int, None] = {}

    def _tick(self) -> int:
        passed = self._clock.now(time.CLOCK_REALTIME) - self._clock.date
        return self._clock.date + passed // TICK * TICK

    def _add(self, start: int, tick: int) -> None:
        known = (self._starts, self._ends, self._ticks)
        if len(self._starts) >= _MOMENTS:  # then the older half is known half as finely
            for moments in known:
                del moments[1 : _MOMENTS // 2 : 2]
        for moments, moment in zip(known, (start, start, tick), strict=True):
            moments.append(moment)

    def begin(self) -> bool:
        """Begin a tick of the guest's if there is a new one, and the host's clock has ticked as well."""
        tick = self._tick()
        self._open = tick == self._ticks[-1]
        if not self._open:
            start = time.clock_gettime_ns(_COARSE)
            if start > self._ends[-1]:
                self._add(start, tick)
                self._open = True
        return self._open

    def delay(self) -> None:
        """Wait for the host's next tick."""
        for _ in range(_WAITS):
            time.sleep(_WAIT)
            if self.begin():
                return

    def end(self) -> None:
        """All stamps until now are of the tick in which the call began."""
        if self._open:
            self._ends[-1] = time.clock_gettime_ns(time.CLOCK_REALTIME)

    def keep(self, moment: int) -> None:
        """Remember a time that a stamp could have; of very many the last."""
        if moment > self._clock.date:
            self._kept[moment] = None
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]

    def shown(self, stamp: int) -> int:
        """Return the guest's time at which the host stamped a file.

        What is older than the run, or was given by the guest, is shown as it is. What somebody else changed meanwhile
        has the time at which the guest first saw it, or one just after its last own change before.
        """
        if stamp <= self._clock.date or stamp in self._kept:
            return stamp
        if stamp > self._ends[-1]:
            return self._shown_first(stamp)
        index = bisect_right(self._starts, stamp) - 1
        return self._ticks[index] + (stamp > self._ends[index])

    def _shown_first(self, stamp: int) -> int:
        if stamp > time.clock_gettime_ns(time.CLOCK_REALTIME):
            return stamp  # somebody wants it to be later
        tick = self._tick()
        if tick == self._ticks[-1]:
            self._ends[-1] = stamp
        else:
            self._add(stamp, tick)
        return tick


def file_times(clock: VirtualClock | HostClock) -> FileTimes:
    """Return how a guest with this clock sees the times of files."""
    return GuestFileTimes(clock) if isinstance(clock, VirtualClock) else HostFileTimes()
