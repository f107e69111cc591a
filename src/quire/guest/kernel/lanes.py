"""What each vCPU has to do: the task that runs there, those that wait for their turn there, and where a task goes.

A task goes where nobody is at work, where it was last if that can be, and stays where it has been put, until a vCPU
has nothing to do that may run it (affinity says so). Deterministic.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from quire.guest.kernel.seat import Seat

__all__ = ["Lane", "Lanes", "Runnable"]


class Runnable(Protocol):
    """A task, as the scheduler knows it."""

    tid: int
    runs: bool  #: whether it goes on when it has its turn
    home: int  #: the vCPU that it ran on last
    ready_at: int  #: the moment since which it could run

    @property
    def affinity(self) -> int:
        """The vCPUs that may run it, a bit each."""
        ...

    @property
    def seat(self) -> Seat:
        """Where its calls are made."""
        ...

    @property
    def until(self) -> int | None:
        """The moment at which its call has waited long enough."""
        ...

    def enter(self, previous: Any) -> None:
        """Load its registers and its address space, in the place of those of `previous`, which may have ended."""
        ...

    def leave(self) -> None:
        """Keep its registers: another vCPU is to have them."""
        ...

    def rest(self) -> object:
        """The vCPU that it is on is not at work any more."""
        ...

    def resume(self) -> bool:
        """Go on in its call, take signals; return whether it runs then, or waits again."""
        ...

    def time_is_over(self) -> None:
        """The moment :attr:`until` has come."""
        ...

    def is_ready(self) -> None:
        """A descriptor that its call waits for is ready."""
        ...


@dataclass(eq=False, slots=True)
class Lane:
    """Of vCPU `number`."""

    number: int
    current: Runnable | None = None  #: whose turn it is, or goes on when the vCPU is at work again
    loaded: Runnable | None = None  #: whose registers the vCPU has
    ready: deque[Runnable] = field(default_factory=deque)
    turn: int = 0  #: serial number of the last turn
    switches: int = 0  #: how often another task was loaded

    @property
    def work(self) -> int:
        """How many tasks it has."""
        return len(self.ready) + (self.current is not None)

    def remove(self, task: object) -> None:
        """Have nothing to do with `task`, but for its registers."""
        if self.current is task:
            self.current = None
        if task in self.ready:
            self.ready = deque(one for one in self.ready if one is not task)


class Lanes:
    """Of `count` vCPUs; `at` returns the time of each."""

    def __init__(self, count: int, at: Callable[[int], int]) -> None:
        self.all = tuple(Lane(number) for number in range(count))
        self._at = at
        self._turns = 0

    def __iter__(self) -> Iterator[Lane]:
        return iter(self.all)

    def __contains__(self, task: object) -> bool:
        return any(one.current is task or task in one.ready for one in self.all)

    def put(self, task: Runnable) -> None:
        """Let `task` run where there is least to do, where it was last if that is no worse."""
        where = self.all[0]
        if len(self.all) > 1:
            allowed = [one for one in self.all if task.affinity >> one.number & 1]
            where = min(allowed, key=lambda one: (one.work, one.number != task.home, one.number))
        where.ready.append(task)

    def next(self) -> Lane | None:
        """Return the lane whose turn it is, None if there is nothing to do: the one that has come least far in time."""
        if len(self.all) == 1:
            return self.all[0] if self.all[0].work else None
        self._share()
        lanes = [one for one in self.all if one.work]
        if not lanes:
            return None
        found = min(lanes, key=lambda one: (self._time(one), one.turn, one.number))
        self._turns += 1
        found.turn = self._turns
        return found

    def _time(self, lane: Lane) -> int:
        """Return when a lane goes on: one that is idle does not before its task could run."""
        at = self._at(lane.number)
        return at if lane.current is not None else max(at, lane.ready[0].ready_at)

    def _share(self) -> None:
        """Give lanes that have nothing to do what waits elsewhere."""
        for idle in self.all:
            if idle.work:
                continue
            busy = max(self.all, key=lambda one: (one.work, -one.number))
            if busy.work < 2:
                return
            task = next((one for one in busy.ready if one.affinity >> idle.number & 1), None)
            if task is not None:
                busy.ready.remove(task)
                idle.ready.append(task)
