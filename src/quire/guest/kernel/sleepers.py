"""Calls that sleep until another task has done for them what they ask for, as semop and msgrcv do on Linux.

Who wakes one hands it its result, so that no third task comes in between. One that a signal, the time or its end took
out of its queue is asleep no longer, and is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from quire.guest.kernel.waiting import WaitQueue

__all__ = ["Asleep", "Sleeper", "Sleepers"]


@dataclass(eq=False, slots=True, kw_only=True)
class Sleeper:
    """One call; `result` is what it was woken with, None while it sleeps."""

    queue: WaitQueue = field(default_factory=WaitQueue)
    result: int | None = None

    def wake(self, result: int) -> None:
        """Have the call answer `result`."""
        self.result = result
        self.queue.wake()


_S = TypeVar("_S", bound=Sleeper)


class Sleepers(Generic[_S]):
    """Those that wait for one object, the oldest first."""

    def __init__(self) -> None:
        self._sleepers: list[_S] = []

    def add(self, sleeper: _S) -> None:
        """One sleeps, or goes on to."""
        if sleeper not in self._sleepers:
            self._sleepers = [one for one in self._sleepers if len(one.queue)]
            self._sleepers.append(sleeper)

    def __iter__(self) -> Iterator[_S]:
        return iter([one for one in self._sleepers if len(one.queue) and one.result is None])

    def wake_all(self, result: int) -> None:
        """Have all of them answer `result`."""
        for one in self:
            one.wake(result)
        self._sleepers.clear()


class Asleep:
    """Which sleeper is which task's."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[object, Sleeper] = WeakKeyDictionary()

    def note(self, task: object, sleeper: Sleeper) -> None:
        """`sleeper` is the call that `task` makes."""
        self._of[task] = sleeper

    def of(self, task: object) -> Sleeper | None:
        """Return the call that `task` made last, None if none of its calls slept so."""
        return self._of.get(task)
