"""The timer of a local APIC against the clock: modes, divisors, what is missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch.apic import TimerMode
from quire.devices.apic_timer import ApicTimer

#: Nanoseconds of a tick of the crystal: 25 MHz.
TICK = 40
#: Of the divide configuration (SDM 3A figure 10-10), typed by hand.
DIVISORS = {0b0000: 2, 0b0001: 4, 0b0010: 8, 0b0011: 16, 0b1000: 32, 0b1001: 64, 0b1010: 128, 0b1011: 1}


class Clock:
    share = 1

    def __init__(self) -> None:
        self.time = 1000

    def now(self) -> int:
        return self.time

    def spend(self, nanoseconds: int) -> None:
        self.time += nanoseconds


def make(mode: TimerMode = TimerMode.ONE_SHOT, divide: int = 0b1011) -> tuple[ApicTimer, Clock]:
    clock = Clock()
    timer = ApicTimer(clock)
    timer.set_mode(mode)
    timer.set_divide(divide)
    return timer, clock


@pytest.mark.parametrize(("divide", "divisor"), DIVISORS.items())
def test_one_shot_counts_down_once(divide, divisor):
    timer, clock = make(divide=divide)
    timer.start(10)
    for left in range(10, 0, -1):
        assert timer.current == left and not timer.expired()
        clock.time += TICK * divisor
    assert timer.current == 0 and timer.expired() and not timer.expired()
    assert timer.moment is None and timer.initial == 10


def test_a_count_is_rounded_up():
    timer, clock = make()
    timer.start(2)
    clock.time += 1
    assert timer.current == 2
    clock.time += 2 * TICK - 2
    assert timer.current == 1 and not timer.expired()
    clock.time += 1
    assert timer.current == 0 and timer.expired()


@given(st.integers(1, 50), st.lists(st.integers(0, 7000), max_size=20))
def test_periods_that_were_missed_count_once(initial, steps):
    timer, clock = make(TimerMode.PERIODIC)
    timer.start(initial)
    start, told = clock.time, 0
    for step in steps:
        clock.time += step
        periods = (clock.time - start) // (initial * TICK)
        assert timer.expired() == (periods > told)
        told = max(told, periods)
        assert timer.moment == start + (told + 1) * initial * TICK
        assert 0 < timer.current <= initial


def test_0_stops():
    timer, clock = make(TimerMode.PERIODIC)
    timer.start(10)
    timer.start(0)
    clock.time += 1 << 40
    assert (timer.moment, timer.current, timer.expired()) == (None, 0, False)


def test_another_divisor_goes_on_with_what_is_left():
    timer, clock = make()
    timer.start(10)
    clock.time += 4 * TICK
    timer.set_divide(0b0000)
    assert timer.current == 6 and timer.moment == clock.time + 6 * 2 * TICK
    timer.set_divide(0xFFFFFFF4)
    assert timer.divide == 0


@pytest.mark.parametrize(("now", "after"), [(500, 4500), (5000, 0), (6000, 0)])
def test_a_deadline_is_a_value_of_the_counter(now, after):
    timer, clock = make(TimerMode.TSC_DEADLINE)
    timer.set_deadline(5000, now)
    assert timer.deadline == 5000 and timer.moment == clock.time + after and timer.current == 0
    clock.time += after
    assert timer.expired() and timer.deadline == 0 and not timer.expired()


def test_modes_ignore_what_is_not_theirs():
    timer, _ = make()
    timer.set_deadline(5000, 0)
    assert (timer.deadline, timer.moment) == (0, None)
    timer.set_mode(TimerMode.TSC_DEADLINE)
    timer.start(10)
    assert (timer.initial, timer.moment) == (0, None)
    timer.set_deadline(5000, 0)
    timer.set_deadline(0, 0)
    assert timer.moment is None


@pytest.mark.parametrize("first", list(TimerMode))
@pytest.mark.parametrize("second", [*TimerMode, 3])
def test_to_and_from_a_deadline_the_timer_is_disarmed(first, second):
    timer, _ = make(first)
    timer.start(10)
    timer.set_deadline(5000, 0)
    armed = timer.moment
    timer.set_mode(second)
    kept = (first is TimerMode.TSC_DEADLINE) == (second == TimerMode.TSC_DEADLINE)
    assert timer.moment == (armed if kept else None)


def test_without_a_clock_nothing_expires():
    timer = ApicTimer(None)
    timer.start(1)
    timer.set_mode(TimerMode.TSC_DEADLINE)
    timer.set_deadline(1, 1)
    assert (timer.moment, timer.current, timer.expired()) == (None, 0, False)
