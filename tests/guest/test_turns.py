"""How long turns are and whose is next: about as long as usual, or anything, the same for the same schedule."""

from __future__ import annotations

import random
from collections import deque

from quire.guest.kernel.turns import SLICE, ExploredTurns, SteadyTurns


class Engine:
    """Notes what turns are begun."""

    slice_over, vcpu_count = False, 1

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []

    def begin_slice(self, blocks: int) -> None:
        self.begun.append(("blocks", blocks))

    def begin_steps(self, instructions: int) -> None:
        self.begun.append(("instructions", instructions))

    def go_to(self, number: int) -> None:
        """There is one vCPU."""


def test_steady_turns_are_alike_and_in_order() -> None:
    turns, engine = SteadyTurns(random.Random(1)), Engine()
    lengths = [turns.length(several=False) for _ in range(1000)]
    assert SLICE <= min(lengths) < SLICE * 1.01 and SLICE * 1.24 < max(lengths) < SLICE * 1.25
    assert max(turns.length(several=True) for _ in range(100)) < SLICE // 2
    ready = deque("abc")
    assert [turns.take(ready) for _ in range(3)] == ["a", "b", "c"]
    turns.begin(engine, 7)
    assert engine.begun == [("blocks", 7)]


def test_explored_turns_are_of_every_length_and_anybodys() -> None:
    lengths = [ExploredTurns(number).length(several=False) for number in range(2000)]
    octaves = {length.bit_length() for length in lengths}
    assert octaves == set(range(1, 14)) and min(lengths) == 1
    firsts = {ExploredTurns(number).take(deque("abc")) for number in range(50)}
    assert firsts == set("abc")
    ready = deque("abc")
    taken = [ExploredTurns(3).take(ready) for _ in range(3)]
    assert sorted(taken) == list("abc") and not ready


def test_a_schedule_is_the_same_each_time() -> None:
    one, other, another = (ExploredTurns(number) for number in (5, 5, 6))
    drawn = [[turns.length(several=True) for _ in range(20)] for turns in (one, other, another)]
    assert drawn[0] == drawn[1] != drawn[2]
    engine = Engine()
    one.begin(engine, 3)
    assert engine.begun == [("instructions", 3)]
