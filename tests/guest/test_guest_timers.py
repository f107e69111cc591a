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


def test_processor_time_stands_while_others_run() -> None:
    clocks, timers, _ = made()
    used = [0]
    timers = Timers.of(clocks.now, lambda _clock: used[0])
    clocks.times[MONOTONIC] = 1000
    timers.interval[1].set(600, 0)
    assert timers.moment(at_work=False) is None and timers.moment() == 1600
    used[0] = 599
    assert timers.moment() == 1001
    timers.interval[0].set(5000, 0)
    assert timers.moment(at_work=False) == 5000 and timers.moment() == 1001


def test_a_limit_of_processor_time() -> None:
    """The soft one is told once a second, the hard one ends the process; 0 is 1, what no machine reaches is none."""
    second = 1_000_000_000
    clocks, _, signals = made()
    used, sent = [0], []
    timers = Timers.of(clocks.now, lambda _clock: used[0])
    timers.limit((1 << 64) - 1, 1 << 62)
    assert timers.moment() is None
    timers.limit(0, 3)
    for used[0] in (second - 1, second, 2 * second - 1, 2 * second, 3 * second):
        timers.send_expired(signals, lambda info: sent.append((used[0] // second, info.signo, info.code)))
    assert sent == [
        (1, signal.SIGXCPU, SI_KERNEL),
        (2, signal.SIGXCPU, SI_KERNEL),
        (3, signal.SIGXCPU, SI_KERNEL),
        (3, signal.SIGKILL, SI_KERNEL),
    ]


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


def test_the_soft_limit_of_processor_time_rises_with_each_signal() -> None:
    second = 1_000_000_000
    clocks, _, signals = made()
    used = [0]
    timers = Timers.of(clocks.now, lambda _clock: used[0])
    assert timers.raised(7) == 7
    for soft in (0, 1):
        timers.limit(soft, 9)
        seen = []
        for used[0] in (0, second, 2 * second + 5):
            timers.send_expired(signals, lambda info: None)
            seen.append(timers.raised(soft))
        assert seen == [soft, 2, 3]
