"""Where tasks go: to vCPUs that are idle, to the one that they were on, and from those that have many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from quire.guest.kernel.lanes import Lanes


def task(name: str, affinity: int = -1, home: int = 0, ready_at: int = 0) -> Any:
    return SimpleNamespace(name=name, affinity=affinity, home=home, ready_at=ready_at)


def waiting(lanes: Lanes) -> list[list[str]]:
    return [[one.name for one in lane.ready] for lane in lanes]


def test_a_task_goes_where_least_is_to_do_and_home_if_that_is_no_worse() -> None:
    lanes = Lanes(3, lambda number: 0)
    for one in (task("a", home=1), task("b", home=1), task("c", home=2), task("d", home=2)):
        lanes.put(one)
    assert waiting(lanes) == [["b"], ["a"], ["c", "d"]]
    lanes.put(task("e", affinity=0b100))
    assert waiting(lanes)[2] == ["c", "d", "e"]


def test_the_lane_that_has_come_least_far_is_next_and_idle_ones_begin_when_their_task_could() -> None:
    times = [50, 30, 10]
    lanes = Lanes(3, times.__getitem__)
    assert lanes.next() is None
    lanes.all[0].current, lanes.all[1].current = task("a"), task("b")
    assert lanes.next() is lanes.all[1]
    lanes.put(task("c", home=2, ready_at=40))
    assert lanes.next() is lanes.all[1]
    times[1] = 60
    assert lanes.next() is lanes.all[2]
    times[2] = 70
    assert lanes.next() is lanes.all[0]


def test_lanes_of_one_time_take_turns() -> None:
    lanes = Lanes(2, lambda number: 0)
    lanes.all[0].current, lanes.all[1].current = task("a"), task("b")
    assert [lanes.next().number for _ in range(4)] == [0, 1, 0, 1]  # type: ignore[union-attr]


def test_an_idle_lane_takes_what_it_may_of_the_one_with_most() -> None:
    lanes = Lanes(2, lambda number: 0)
    lanes.all[0].current = task("a")
    lanes.all[0].ready.extend([task("b", affinity=0b01), task("c")])
    lanes.next()
    assert waiting(lanes) == [["b"], ["c"]]
    assert lanes.all[0].current in lanes and task("z") not in lanes
    lanes.all[0].remove(lanes.all[0].current)
    assert lanes.all[0].current is None


@given(st.lists(st.tuples(st.integers(1, 15), st.integers(0, 3)), max_size=30))
def test_nobody_is_lost_or_goes_where_he_may_not(wanted: list[tuple[int, int]]) -> None:
    lanes = Lanes(4, lambda number: number)
    tasks = [task(str(n), affinity=mask, home=home) for n, (mask, home) in enumerate(wanted)]
    for one in tasks:
        lanes.put(one)
    seen = []
    while (lane := lanes.next()) is not None:
        one = lane.ready.popleft()
        assert one.affinity >> lane.number & 1
        seen.append(one.name)
    assert sorted(seen, key=int) == [one.name for one in tasks]
