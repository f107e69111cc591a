"""Futexes: queues by the word of memory that they are about.

A word is known by a key of three kinds that never match each other: private to an address space by its address, shared
by what lies behind its mapping (Linux, kernel/futex/core.c, get_futex_key). This file knows no task.
"""

from dataclasses import dataclass, field

from quire.arch import LOW32
from quire.guest.kernel.waiting import WaitQueue

__all__ = ["ANY", "Futexes", "Key"]

#: What the word is behind, and where in it.
Key = tuple[object, int]
#: FUTEX_BITSET_MATCH_ANY.
ANY = LOW32
_MANY = 1000


@dataclass(eq=False, slots=True)
class Futexes:
    """The queues of one machine."""

    _queues: dict[Key, WaitQueue] = field(default_factory=dict)
    _many: int = _MANY  # queues before those are dropped in which nobody waits

    def queue(self, key: Key) -> WaitQueue:
        """Return the queue of a word, to wait in."""
        if len(self._queues) > self._many:
            self._queues = {known: queue for known, queue in self._queues.items() if len(queue)}
            self._many = max(_MANY, 2 * len(self._queues))
        return self._queues.setdefault(key, WaitQueue())

    def wake(self, key: Key, count: int, bits: int = ANY) -> int:
        """Wake up to `count` that wait for one of `bits`; return how many."""
        queue = self._queues.get(key)
        return 0 if queue is None else queue.wake(count, lambda waiter: bool(waiter.tag & bits))

    def requeue(self, key: Key, count: int, target: Key, most: int) -> tuple[int, int]:
        """Wake up to `count`, and have up to `most` others wait at `target`; return how many of each."""
        queue = self._queues.get(key)
        if queue is None:
            return 0, 0
        woken = queue.wake(count)
        if target == key:
            return woken, min(len(queue), most)
        return woken, queue.move(self.queue(target), most)
