"""The timer behind a descriptor of timerfd_create, on the guest's clock. Models Linux's fs/timerfd.c.

A periodic one that has expired starts its next period when somebody reads it or asks for its state: until then what it
missed is counted by the clock alone. So one that nobody reads wakes nobody twice.
"""

import errno
import struct
import time
from collections.abc import Callable

from quire.guest.kernel.played_files import PlayedFile, Reader
from quire.guest.kernel.timers import Timer
from quire.guest.kernel.waiting import Blocks

__all__ = ["TimerFile"]

_COUNT = struct.Struct("<Q")


class TimerFile(PlayedFile):
    """A timer on `clock`, stopped; `now` returns the time of a clock by its number, in ns."""

    link = b"anon_inode:[timerfd]"

    def __init__(self, clock: int, now: Callable[[int], int]) -> None:
        super().__init__()
        self.timer = Timer(clock, 0)
        self._now = now
        self._expirations = 0  # that nobody has read
        self._runs = False  # towards the next of them

    def set(self, value: int, interval: int, *, absolute: bool) -> None:
        """Start it anew: in `value` ns or at that time, then each `interval`; 0 stops it."""
        moment = value if absolute else self._now(self.timer.clock) + value
        self.timer.set(moment if value else None, interval)
        self._expirations, self._runs = 0, bool(value)
        self.pipe.set_level(0)
        self.expire()

    def state(self) -> tuple[int, int]:
        """Return how long until it expires, 0 when it is stopped or over, and its interval; start the next period."""
        self.expire()
        self._count()
        return self.timer.left(self._now(self.timer.clock)), self.timer.interval

    def read(self, reader: Reader, size: int) -> bytes:
        """Return how often it has expired since the last read. EINVAL for less than 8 bytes."""
        if size < _COUNT.size:
            raise OSError(errno.EINVAL, "too short")
        self.expire()
        self._count()
        if not self._expirations:
            raise Blocks(queues=((self.queue, 0),))
        found, self._expirations = self._expirations, 0
        self.pipe.set_level(0)
        return _COUNT.pack(found)

    def moment(self) -> int | None:
        """Return when it expires, on CLOCK_MONOTONIC."""
        if not self._runs:
            return None
        return self._now(time.CLOCK_MONOTONIC) + self.timer.left(self._now(self.timer.clock))

    def expire(self) -> None:
        """Be ready, and wake who reads, if it has expired."""
        if self._runs and self.timer.next is not None and self.timer.next <= self._now(self.timer.clock):
            self._runs = False
            self.ring()

    def _count(self) -> None:
        """Count what has expired, and have a periodic one run on."""
        if not self._runs and self.timer.next is not None:
            self._expirations += self.timer.expired(self._now(self.timer.clock))
            self._runs = self.timer.next is not None
