"""Who waits for whom when no task can run: for virtual time, or for a person at a terminal."""

import os
import random
from types import SimpleNamespace
from typing import Any

import pytest

from quire.guest.kernel.clock import VirtualClock
from quire.guest.kernel.outside import Nowhere
from quire.guest.kernel.scheduler import Scheduler
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.turns import SteadyTurns

_SECOND = 1_000_000_000
_LONG = 1000 * _SECOND


class Sleeper:
    """A task whose call waits until a moment."""

    runs, affinity = True, -1

    def __init__(self, scheduler: Scheduler, seat: Seat, tid: int, until: int) -> None:
        self.home = self.ready_at = 0
        self.scheduler, self.seat, self.tid, self.until = scheduler, seat, tid, until
        scheduler.waiting[self] = None

    def enter(self, previous: Any) -> None:
        """There are no registers."""

    def rest(self) -> None:
        """It uses nothing."""

    def resume(self) -> bool:
        return True

    def time_is_over(self) -> None:
        self.scheduler.waiting.pop(self, None)
        self.scheduler.add(self)

    is_ready = time_is_over


class Person(Nowhere):
    """Presses a key at once: what comes from it is the kernel's to say."""

    def __init__(self) -> None:
        self.slept: list[int | None] = []
        self.pressed = os.eventfd(1, os.EFD_NONBLOCK)

    def sleep(self, left: int | None) -> None:
        self.slept.append(left)

    def wake_descriptor(self) -> int:
        return self.pressed


class Keeper:
    """The kernel: once the key has been pressed, `stopped` runs."""

    def __init__(self, interactive: bool) -> None:
        self.outside, self.is_interactive = Person(), interactive
        self.collected = lambda: None

    def next_timer(self, at_work: object) -> None:
        """Nobody has a timer."""

    def collect(self) -> None:
        self.collected()

    def gives_up(self, moment: int | None) -> bool:
        return False


def _scheduler(keeper: Keeper) -> tuple[Scheduler, VirtualClock, Seat]:
    clock, seat = VirtualClock(lambda: 0, 0), Seat()
    cpu = SimpleNamespace(begin_slice=lambda blocks: None, slice_over=False, vcpu_count=1)
    return Scheduler(cpu, clock, SteadyTurns(random.Random(1)), keeper, seat), clock, seat  # type: ignore[arg-type]


@pytest.mark.parametrize("interactive", [False, True])
def test_time_jumps_unless_a_person_may_press_a_key(interactive: bool) -> None:
    keeper = Keeper(interactive)
    scheduler, clock, seat = _scheduler(keeper)
    start = clock.now()
    long, other = (Sleeper(scheduler, seat, tid, start + _LONG + tid) for tid in (100, 101))
    calls = []

    def collected() -> None:
        calls.append(None)
        if len(calls) > 1:  # the first look came before the wait
            other.time_is_over()
            keeper.collected = lambda: None

    keeper.collected = collected
    scheduler.prepare()
    scheduler.switch(seat)
    scheduler.close()
    os.close(keeper.outside.pressed)
    assert (scheduler.current is other, clock.now() == start) == (interactive, interactive)
    assert (scheduler.current is long, clock.now() >= start + _LONG) == (not interactive, not interactive)


def test_without_descriptors_to_watch_it_sleeps_as_long_as_the_task_would() -> None:
    keeper = Keeper(True)
    scheduler, clock, seat = _scheduler(keeper)
    task = Sleeper(scheduler, seat, 100, clock.now() + _LONG)
    scheduler.switch(seat)
    os.close(keeper.outside.pressed)
    assert keeper.outside.slept == [_LONG] and scheduler.current is task
