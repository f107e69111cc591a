"""Timers of a process as records: when they expire, what they send, what they count, on clocks that a test turns."""

import signal

from quire.guest.kernel.siginfo import SI_KERNEL, SI_TIMER
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.timers import Timers

REAL, MONOTONIC, CPU = 0, 1, 2


class Clocks:
    """Clocks that stand until they are turned."""

    def __init__(self) -> None:
        self.times = {REAL: 1000, MONOTONIC: 0, CPU: 500}

    def now(self, clock: int) -> int:
        return self.times[clock]


def made() -> tuple[Clocks, Timers, Signals]:
    clocks, signals = Clocks(), Signals()
    for signo in (signal.SIGALRM, signal.SIGPROF, signal.SIGUSR1):
        signals.mask |= 1 << (signo - 1)
    return clocks, Timers(clocks.now), signals


def test_a_timer_expires_at_its_time_and_again() -> None:
    clocks, timers, signals = made()
    alarm = timers.interval[0]
    assert timers.moment() is None
    alarm.set(10, 4)
    assert timers.moment() == 10 and alarm.left(3) == 7
    clocks.times[MONOTONIC] = 9
    timers.send_expired(signals)
    assert not signals.pending
    clocks.times[MONOTONIC] = 19
    timers.send_expired(signals)
    assert alarm.next == 22 and timers.moment() == 22
    info = signals.dequeue(-1)
    assert info is not None and (info.signo, info.code) == (signal.SIGALRM, SI_KERNEL)
    assert signals.dequeue(-1) is None
    alarm.set(None, 4)
    assert timers.moment() is None and alarm.left(100) == 0 and alarm.interval == 0


def test_once_is_once() -> None:
    clocks, timers, signals = made()
    timers.interval[0].set(10, 0)
    clocks.times[MONOTONIC] = 100
    for _ in range(2):
        timers.send_expired(signals)
        assert (signals.dequeue(-1) is None) == bool(_)
    assert timers.moment() is None


def test_a_clock_of_processor_time_is_looked_at_when_it_may_be_due() -> None:
    clocks, timers, signals = made()
    timers.interval[2].set(600, 0)
    clocks.times[MONOTONIC] = 7
    assert timers.moment() == 107
    clocks.times[MONOTONIC] = 107  # the guest slept
    timers.send_expired(signals)
    assert not signals.pending and timers.moment() == 207


def test_a_signal_that_waits_counts_what_it_misses() -> None:
    clocks, timers, signals = made()
    timer = timers.make(REAL, signal.SIGUSR1, None)
    assert timer.ident == timer.value == 0 and timers.make(REAL, signal.SIGUSR1, 9).value == 9
    timer.set(1010, 10)
    clocks.times[REAL] = 1025
    timers.send_expired(signals)
    assert timer.overrun == 1
    clocks.times[REAL] = 1070
    timers.send_expired(signals)
    assert timer.overrun == 6
    info = signals.dequeue(-1)
    assert info is not None and (info.code, info.pid, info.value) == (SI_TIMER, 0, 0)
    assert signals.dequeue(-1) is None
    clocks.times[REAL] = 10**30
    timers.send_expired(signals)
    assert timer.overrun == (1 << 31) - 1


def test_a_timer_without_a_signal_sends_none() -> None:
    _, timers, signals = made()
    timers.make(REAL, 0, None).set(1, 1)
    timers.send_expired(signals)
    assert not signals.pending
