"""What the calls of System V IPC have in common: the caller, commands that all kinds know, sleeping."""

import errno
from typing import TypeVar

from quire.guest.kernel.credentials import Credentials
from quire.guest.kernel.ipc_objects import READ, IpcObject, IpcTable, refuse
from quire.guest.kernel.sleepers import Sleeper
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls.state import thread_state

__all__ = ["INFO", "REMOVE", "SET", "STAT", "caller", "described", "owned", "sleep", "slept"]

#: IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO.
REMOVE, SET, STAT, INFO = 0, 1, 2, 3

_O = TypeVar("_O", bound=IpcObject)


def caller(task: Task) -> Credentials:
    """Return by which ids the caller is judged."""
    return thread_state(task).credentials


def owned(task: Task, table: IpcTable[_O], ident: int) -> _O:
    """Return an object that the caller may change or remove. Raises EINVAL, EPERM."""
    found = table.find(ident)
    found.check_owner(caller(task))
    return found


def described(task: Task, table: IpcTable[_O], number: int, *, by_index: bool, by_anybody: bool) -> _O:
    """Return an object that the caller may look at, by its identifier or its index. Raises EINVAL, EACCES."""
    found = table.at(number) if by_index else table.find(number)
    if not by_anybody:
        found.check(READ, caller(task))
    return found


def slept(task: Task) -> Sleeper | None:
    """Return the sleeper of the call at hand, if it has slept; what it was woken with is in it."""
    return task.kernel.ipc.asleep.of(task) if "asleep" in task.kept else None


def sleep(task: Task, sleeper: Sleeper, until: int | None = None, timed_out: int = errno.EAGAIN) -> Blocks:
    """Return what to raise so that the call sleeps until somebody wakes it, or until a moment: then `timed_out`."""
    task.kept["asleep"] = 1
    task.kernel.ipc.asleep.note(task, sleeper)
    if until is not None and task.kernel.clock.now() >= until:
        raise refuse(timed_out)
    return Blocks(queues=((sleeper.queue, 0),), until=until)
