"""Sets of semaphores: what operations on one do, who waits, and what is undone. Models Linux's ipc/sem.c."""

import errno
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from quire.guest.kernel.ipc_objects import IPC_NOWAIT, IpcObject
from quire.guest.kernel.sleepers import Sleeper, Sleepers

__all__ = ["SEMVMX", "Operation", "SemSet", "SemSleeper", "Undo", "undo_all"]

#: The highest value, and the largest adjustment at a process's end.
SEMVMX = 32767
_UNDO = 0x1000


class Operation(NamedTuple):
    """struct sembuf."""

    number: int
    change: int
    flags: int


#: Of one process: by set and semaphore, what is added at its end.
Undo = dict["SemSet", dict[int, int]]


@dataclass(eq=False, slots=True, kw_only=True)
class SemSleeper(Sleeper):
    """A semop that waits for semaphore `at`."""

    operations: tuple[Operation, ...]
    pid: int
    undo: Undo
    at: Operation


@dataclass(eq=False, kw_only=True)
class SemSet(IpcObject):
    """A set; `values` and `pids`, who changed each last, are of as many semaphores as it has."""

    values: "array[int]"
    pids: "array[int]"
    used: int = 0  #: when semop last did something
    sleepers: Sleepers[SemSleeper] = field(default_factory=Sleepers)

    def apply(self, operations: Iterable[Operation], pid: int, undo: Undo) -> Operation | int:
        """Do all operations or none; return 0, a negative errno, or the one that has to wait."""
        values: dict[int, int] = {}
        own, adjusted = undo.get(self, {}), dict[int, int]()
        for one in operations:
            value = values.get(one.number, self.values[one.number])
            if (not one.change and value) or value + one.change < 0:
                return -errno.EAGAIN if one.flags & IPC_NOWAIT else one
            if value + one.change > SEMVMX:
                return -errno.ERANGE
            values[one.number] = value + one.change
            if one.flags & _UNDO and one.change:
                adjustment = adjusted.get(one.number, own.get(one.number, 0)) - one.change
                if not -SEMVMX - 1 <= adjustment <= SEMVMX:
                    return -errno.ERANGE
                adjusted[one.number] = adjustment
        for number, value in values.items():
            self.values[number], self.pids[number] = value, pid
        if adjusted:
            undo.setdefault(self, {}).update(adjusted)
        return 0

    def serve(self, now: int) -> None:
        """Do what those wait for that need no longer wait, the oldest first, until nobody is left who can go on."""
        again = True
        while again:
            again = False
            for one in self.sleepers:
                result = self.apply(one.operations, one.pid, one.undo)
                if isinstance(result, Operation):
                    one.at = result
                    continue
                self.used = now if not result else self.used
                one.wake(result)
                if not result and any(operation.change for operation in one.operations):
                    again = True
                    break

    def set_values(self, values: dict[int, int], pid: int, undos: Iterable[Undo], now: int) -> None:
        """Have semaphores be at values; nobody's adjustments of them count any more."""
        for number, value in values.items():
            self.values[number], self.pids[number] = value, pid
            for undo in undos:
                undo.get(self, {}).pop(number, None)
        self.changed = now
        self.serve(now)

    def waiting(self, number: int, *, for_zero: bool) -> int:
        """Return how many calls wait for a semaphore to be 0, or to be more."""
        return sum(one.at.number == number and (one.at.change == 0) == for_zero for one in self.sleepers)


def undo_all(undo: Undo, pid: int, now: int) -> None:
    """Make the adjustments of a process that ends, within what values can be."""
    for semaphores, adjustments in undo.items():
        if semaphores.removed:
            continue
        for number, adjustment in adjustments.items():
            if adjustment:
                value = semaphores.values[number] + adjustment
                semaphores.values[number] = min(max(value, 0), SEMVMX)
                semaphores.pids[number] = pid
        semaphores.serve(now)
    undo.clear()
