"""Waiting: how a system call says that it cannot go on, and who wakes the task that made it.

Nothing sleeps in a handler. It tries without blocking; if it would block it raises :class:`Blocks`, which says what it
waits for. The task is put aside with its call as a record, and the whole call is made again when a queue, a descriptor,
the time or a signal wakes it. Looking and queueing are one step, because no other task runs in between.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Blocks", "WaitQueue", "Waiter"]


@dataclass(eq=False, slots=True)
class Waiter:
    """One call in one queue. `wake` has the task run again; `tag` is for who chooses whom to wake, such as a bitset."""

    wake: Callable[[], None]
    tag: int = 0
    queue: "WaitQueue | None" = None
    woken: bool = False  #: whether its queue took it out, and not time or a signal

    def leave(self) -> None:
        """Wait no longer, in whichever queue it is by now: the one place where a waiter that was not woken goes."""
        if self.queue is not None:
            self.queue.remove(self)


@dataclass(eq=False, slots=True)
class WaitQueue:
    """Calls that wait for one thing, the oldest first."""

    _waiting: dict[Waiter, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(list(self._waiting))

    def add(self, waiter: Waiter) -> None:
        """Queue `waiter` as the last."""
        self._waiting[waiter] = None
        waiter.queue = self

    def remove(self, waiter: Waiter) -> None:
        """Take `waiter` out, unwoken."""
        self._waiting.pop(waiter, None)
        waiter.queue = None

    def wake(self, count: int | None = None, chosen: Callable[[Waiter], bool] = lambda waiter: True) -> int:
        """Wake up to `count` of those that are `chosen`, the oldest first, None for all; return how many."""
        woken = 0
        for waiter in self:
            if woken == count:
                break
            if chosen(waiter):
                self.remove(waiter)
                waiter.woken = True
                woken += 1
                waiter.wake()
        return woken

    def move(self, other: "WaitQueue", count: int) -> int:
        """Have up to `count` wait in `other` from now on; return how many."""
        moved = list(self._waiting)[:count]
        for waiter in moved:
            self.remove(waiter)
            other.add(waiter)
        return len(moved)


class Blocks(Exception):
    """A system call waits: in `queues`, with a tag each, for events of poll(2) on `files`, or until a moment.

    `until` is in ns of the guest's CLOCK_MONOTONIC, None for never. `unbroken`: no signal ends it but one that kills.
    `answer` is what the call returns if a queue wakes it, where that is all it waits for: it is not made again then.
    """

    def __init__(
        self,
        *,
        queues: tuple[tuple[WaitQueue, int], ...] = (),
        files: tuple[tuple[int, int], ...] = (),
        until: int | None = None,
        unbroken: bool = False,
        timed: bool = False,
        answer: int | None = None,
    ) -> None:
        super().__init__("a system call waits")
        self.answer = answer
        self.queues, self.files, self.until, self.unbroken = queues, files, until, unbroken
        self.timed = (
            timed  #: whether a signal ends the call for good, since a restart would begin its time anew
        )
        self.restarts = False  #: whether the call is made again after a signal, if its handler says so
