"""Queues of calls that wait, futexes by their keys, and time that passes by itself: without a guest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.guest.kernel.clock import VirtualClock
from quire.guest.kernel.futexes import ANY, Futexes
from quire.guest.kernel.waiting import Waiter, WaitQueue


def _queued(futexes, key, tags=(ANY,) * 4):
    woken = []
    waiters = []
    for number, tag in enumerate(tags):
        waiters.append(Waiter(lambda number=number: woken.append(number), tag))
        futexes.queue(key).add(waiters[-1])
    return woken, waiters


def test_the_oldest_is_woken_first_and_who_left_is_not():
    futexes = Futexes()
    woken, waiters = _queued(futexes, ("a", 0))
    waiters[0].leave()
    assert futexes.wake(("a", 0), 2) == 2 and woken == [1, 2]
    assert [one.woken for one in waiters] == [False, True, True, False]
    assert futexes.wake(("a", 8), 9) == futexes.wake(("b", 0), 9) == 0
    assert futexes.wake(("a", 0), 9) == 1 and futexes.wake(("a", 0), 9) == 0


def test_bits_choose_and_leave_the_others_waiting():
    futexes = Futexes()
    woken, _ = _queued(futexes, ("a", 0), (1, 2, 3, 4))
    assert futexes.wake(("a", 0), 9, 2) == 2 and woken == [1, 2]
    assert futexes.wake(("a", 0), 9, 4) == 1 and woken == [1, 2, 3]


def test_who_is_moved_waits_there_and_leaves_from_there():
    futexes = Futexes()
    woken, waiters = _queued(futexes, ("a", 0))
    assert futexes.requeue(("a", 0), 1, ("a", 4), 2) == (1, 2)
    waiters[1].leave()
    assert futexes.wake(("a", 4), 9) == 1 and woken == [0, 2]
    assert futexes.wake(("a", 0), 9) == 1 and woken == [0, 2, 3]


def test_queues_in_which_nobody_waits_are_dropped():
    futexes = Futexes()
    for number in range(5000):
        futexes.queue(("a", 4 * number))
    assert len(futexes._queues) <= 1001


@given(st.lists(st.sampled_from(["add", "wake", "leave", "move"]), max_size=40))
def test_every_waiter_is_woken_once_or_left(steps):
    here, there, made, woken = WaitQueue(), WaitQueue(), [], []
    left = set()
    for step in steps:
        if step == "add":
            number = len(made)
            made.append(Waiter(lambda number=number: woken.append(number)))
            here.add(made[-1])
        elif step == "wake":
            (here if len(here) else there).wake(1)
        elif step == "move":
            here.move(there, 1)
        else:
            waiting = [n for n, one in enumerate(made) if one.queue is not None]
            if waiting:
                made[waiting[-1]].leave()
                left.add(waiting[-1])
    assert len(woken) == len(set(woken)) and not left & set(woken)
    assert len(here) + len(there) + len(woken) + len(left) == len(made)


def test_time_passes_with_instructions_and_jumps():
    executed = [0]
    clock = VirtualClock(lambda: executed[0], 10**18)
    start, date = clock.now(), clock.now(0)
    assert date == 10**18 and clock.busy() == 0
    executed[0] = 500
    assert clock.now() == start
    clock.ran()
    assert clock.now() == start + 500 and clock.now(0) == date + 500
    clock.pass_call()
    assert clock.busy() == 1500
    clock.skip_to(start + 10**9)
    clock.skip_to(start)
    assert clock.now() == start + 10**9 and clock.busy() == 1500
