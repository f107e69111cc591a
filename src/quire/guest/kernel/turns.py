"""How long a turn of a task is, and whose is next: as usual, or as one schedule of many, to find what depends on it."""

import random
from collections import deque
from typing import Protocol, TypeVar

__all__ = ["SLICE", "ExploredTurns", "SteadyTurns", "TurnChoice", "Turns"]

#: Blocks of instructions in a turn, about.
SLICE = 20_000
#: The same where others run side by side: what they do to each other is seen sooner.
_SLICE_OF_SEVERAL = 4_000
#: log2 of the most instructions in a turn of an explored schedule.
_LONGEST = 13.0

Waiting = TypeVar("Waiting")


class Turns(Protocol):
    """The engine, as far as tasks take turns on it."""

    def begin_slice(self, blocks: int) -> None:
        """Interrupt the task after so many blocks."""
        ...

    def begin_steps(self, instructions: int) -> None:
        """Interrupt the task after so many instructions."""
        ...

    @property
    def slice_over(self) -> bool:
        """Whether all of them have run."""
        ...

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs there are."""
        ...

    def go_to(self, number: int) -> None:
        """Work on vCPU `number` from now on."""
        ...


class TurnChoice(Protocol):
    """Who says how long turns are. `unit` is what one of what they are counted in takes of virtual time, in ns."""

    unit: int

    def length(self, *, several: bool) -> int:
        """Return how long the next turn is, on one vCPU of `several` or on the only one."""
        ...

    def begin(self, cpu: Turns, length: int) -> None:
        """Have the turn begin."""
        ...

    def take(self, ready: deque[Waiting]) -> Waiting:
        """Take from those that are `ready` whoever is next."""
        ...


class SteadyTurns:
    """Turns of so many blocks, more or less as `rng` says; who has waited longest is next."""

    unit = 5

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def length(self, *, several: bool) -> int:
        """Return a number of blocks."""
        blocks = _SLICE_OF_SEVERAL if several else SLICE
        return blocks + self._rng.randrange(blocks // 4)

    def begin(self, cpu: Turns, length: int) -> None:
        """Have blocks count."""
        cpu.begin_slice(length)

    def take(self, ready: deque[Waiting]) -> Waiting:
        """Take the first."""
        return ready.popleft()


class ExploredTurns:
    """Schedule `number`: turns end at any instruction, between two accesses of one block too; anybody may be next.

    Most are short, some long: each power of two is as likely as another.
    """

    unit = 1

    def __init__(self, number: int) -> None:
        self._rng = random.Random(f"schedule {number}")

    def length(self, *, several: bool) -> int:
        """Return a number of instructions."""
        del several
        return int(2 ** self._rng.uniform(0, _LONGEST))

    def begin(self, cpu: Turns, length: int) -> None:
        """Have instructions count."""
        cpu.begin_steps(length)

    def take(self, ready: deque[Waiting]) -> Waiting:
        """Take any."""
        ready.rotate(-self._rng.randrange(len(ready)))
        return ready.popleft()
