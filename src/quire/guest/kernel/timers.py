"""The timers of a process: those of setitimer and alarm, those of timer_create, and its limit of processor time.

They are records here and none is the host's, whose timers would end Quire. Models Linux's kernel/time/itimer.c and
posix-timers.c: a periodic timer whose signal still waits counts the expirations that it missed (its overrun). Times are
in ns; which clock tells them is passed in.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from quire.guest.kernel.siginfo import SI_KERNEL, SI_TIMER, SignalInfo
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.usage import process_of_clock

__all__ = ["INTERVAL_SIGNALS", "Timer", "Timers"]

#: What each timer of setitimer sends: ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
INTERVAL_SIGNALS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_INTERVAL_CLOCKS = (1, 2, 2)
_PROCESSOR = 2  # CLOCK_PROCESS_CPUTIME_ID
_SECOND = 1_000_000_000
#: Longer than any machine runs, in seconds.
_NEVER = 1 << 32
_OVERRUN_MAX = (1 << 31) - 1


def _passes(clock: int, *, at_work: bool, busy: int | None) -> bool:
    """Whether the time of a clock passes while its process is `at_work` or not, and process `busy`, None for all."""
    other = process_of_clock(clock)
    return at_work or not _is_used(clock) if other is None else busy in (None, other)


def _is_used(clock: int) -> bool:
    """Whether a clock is one of processor time, which passes while the process or the thread runs."""
    return clock == _PROCESSOR or clock < 0


@dataclass(slots=True, eq=False)
class Timer:
    """One timer: it expires at `next` on `clock`, None for never, and again each `interval` if that is not 0.

    `signo` 0 sends nothing. `ident` and `value` are those of timer_create, None for a timer of setitimer. `overrun` is
    what its newest signal missed, `last` what the one before it did. A negative clock is that of a thread, or of
    another process.
    """

    clock: int
    signo: int
    ident: int | None = None
    value: int = 0
    next: int | None = None
    interval: int = 0
    overrun: int = 0
    last: int = 0

    def set(self, moment: int | None, interval: int) -> None:
        """Start it anew, or stop it: `moment` None."""
        self.next, self.interval = moment, interval if moment is not None else 0

    def left(self, now: int) -> int:
        """Return how long until it expires; 0 when it is stopped, at least 1 when it runs."""
        return 0 if self.next is None else max(self.next - now, 1)

    def expired(self, now: int) -> int:
        """Return how often it expired until `now`, and set it for the next time."""
        if self.next is None or self.next > now:
            return 0
        if not self.interval:
            self.next = None
            return 1
        times = 1 + (now - self.next) // self.interval
        self.next += times * self.interval
        return times

    def info(self) -> SignalInfo:
        """Return the signal that it sends."""
        if self.ident is None:
            return SignalInfo(self.signo, SI_KERNEL)
        return SignalInfo(self.signo, SI_TIMER, pid=self.ident, uid=self.overrun, value=self.value)


@dataclass(slots=True, eq=False)
class Timers:
    """The timers of one process. `now` returns the time of a clock by its number."""

    now: Callable[[int], int] = time.clock_gettime_ns
    interval: tuple[Timer, ...] = field(
        default_factory=lambda: tuple(
            Timer(clock, signo) for clock, signo in zip(_INTERVAL_CLOCKS, INTERVAL_SIGNALS, strict=True)
        )
    )
    made: dict[int, Timer] = field(default_factory=dict)
    #: What RLIMIT_CPU sends: SIGXCPU at the soft limit and each second from then on, SIGKILL at the hard one.
    limits: tuple[Timer, Timer] = field(
        default_factory=lambda: (Timer(_PROCESSOR, signal.SIGXCPU), Timer(_PROCESSOR, signal.SIGKILL))
    )
    _idents: int = 0

    @classmethod
    def of(cls, now: Callable[[int], int], used: Callable[[int], int]) -> Self:
        """Return the timers of a process: `used` tells clocks of processor time, `now` the others."""
        return cls(lambda clock: used(clock) if _is_used(clock) else now(clock))

    def limit(self, soft: int, hard: int) -> None:
        """Have the process end by its processor time, in seconds: RLIMIT_CPU. 0 is 1, as for Linux."""
        for timer, seconds, again in zip(self.limits, (soft, hard), (_SECOND, 0), strict=True):
            timer.set(max(seconds, 1) * _SECOND if seconds < _NEVER else None, again)

    def raised(self, soft: int) -> int:
        """Return the soft limit of processor time, in s, which was set to `soft`: each SIGXCPU raises it by one."""
        moment = self.limits[0].next
        return soft if moment is None or moment <= max(soft, 1) * _SECOND else moment // _SECOND

    def make(self, clock: int, signo: int, value: int | None) -> Timer:
        """Return a new timer of timer_create, stopped; without a `value` its own number is sent."""
        ident, self._idents = self._idents, self._idents + 1
        timer = self.made[ident] = Timer(clock, signo, ident, ident if value is None else value)
        return timer

    def send_expired(self, signals: Signals, send: Callable[[SignalInfo], object] | None = None) -> None:
        """Send the signal of each timer that expired since the last call, unless the one before it still waits.

        By `send`; without it to the thread of `signals`.
        """
        for timer in self._running():
            times = timer.expired(self.now(timer.clock))
            if not times or not timer.signo:
                continue
            if timer.ident is not None and signals.waits(timer.signo, SI_TIMER, timer.ident):
                timer.overrun = min(timer.overrun + times, _OVERRUN_MAX)
                continue
            timer.last, timer.overrun = timer.overrun, min(times - 1, _OVERRUN_MAX)
            (send or signals.queue)(timer.info())

    def moment(self, *, at_work: bool = True, busy: int | None = None) -> int | None:
        """Return when to look next, on CLOCK_MONOTONIC; None when no timer runs.

        The clocks of processor time stand while the process is not `at_work`; those of others but process `busy`, if
        it is known.
        """
        first, second, third = self.interval
        soft, hard = self.limits
        if first.next is second.next is third.next is soft.next is hard.next is None and not self.made:
            return None
        running = [
            timer.left(self.now(timer.clock))
            for timer in self._running()
            if _passes(timer.clock, at_work=at_work, busy=busy)
        ]
        return self.now(time.CLOCK_MONOTONIC) + min(running) if running else None

    def _running(self) -> list[Timer]:
        timers = (*self.interval, *self.limits, *self.made.values())
        return [timer for timer in timers if timer.next is not None]
