"""What the calls of System V IPC have in common: the caller, commands that all kinds know, sleeping."""

import errno
from collections.abc import Callable
from typing import TypedDict, TypeVar

from quire.guest.kernel.credentials import Credentials
from quire.guest.kernel.ipc_objects import READ, IpcObject, IpcTable, refuse
from quire.guest.kernel.sleepers import Sleeper
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls.state import thread_state

__all__ = ["INFO", "REMOVE", "SET", "STAT", "caller", "describe", "origin", "owned", "sleep", "slept"]

#: IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO.
REMOVE, SET, STAT, INFO = 0, 1, 2, 3

_O = TypeVar("_O", bound=IpcObject)


class Origin(TypedDict):
    """Of a new object: the fields of :class:`IpcObject` that its maker gives it."""

    key: int
    uid: int
    gid: int
    creator: tuple[int, int]
    mode: int
    changed: int


def caller(task: Task) -> Credentials:
    """Return by which ids the caller is judged."""
    return thread_state(task).credentials


def origin(task: Task, key: int, flags: int) -> Origin:
    """Return what an object has of the caller, who makes it."""
    who = caller(task)
    uid, gid = users = who.users.effective, who.groups.effective
    changed = task.kernel.ipc.now()
    return Origin(key=key, uid=uid, gid=gid, creator=users, mode=flags & 0o777, changed=changed)


def owned(task: Task, table: IpcTable[_O], ident: int) -> _O:
    """Return an object that the caller may change or remove. Raises EINVAL, EPERM."""
    found = table.find(ident)
    found.check_owner(caller(task))
    return found


def describe(
    task: Task,
    table: IpcTable[_O],
    number: int,
    pointer: int,
    structure: Callable[[_O], bytes],
    *,
    by_index: bool,
    by_anybody: bool,
) -> int:
    """Write an object's `structure` for a caller who may look at it; return 0, or of one by its index its identifier.

    Raises EINVAL, EACCES.
    """
    found = table.at(number) if by_index else table.find(number)
    if not by_anybody:
        found.check(READ, caller(task))
    task.memory.write(pointer, structure(found))
    return found.ident if by_index else 0


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
