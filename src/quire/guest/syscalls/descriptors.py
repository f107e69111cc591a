"""Calls on descriptors themselves: close, dup, pipe, and the makers of event channels.

Guest descriptors are host descriptors. Quire's own lie at :data:`FIRST_OWN` and above, where no guest
may name them, so the lowest free number is the one that a native run would get.
"""

import errno
import os

from quire.guest.kernel.clone_flags import Clone
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.channels import note_pipe
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, PATH, POINTER, S32, U32, fail
from quire.guest.syscalls.state import admit, group_state
from quire.guest.syscalls.table import AGAIN, Result, passes, syscall
from quire.own_descriptors import FIRST_OWN

__all__ = ["deliver_pair"]

_CLOSE, _DUP3, _CLOSE_RANGE, _PIPE2 = 3, 292, 436, 293
_CLOSE_RANGE_UNSHARE, _CLOSE_RANGE_CLOEXEC = 2, 4

passes(284, "eventfd", INT, effect=Effect.GUEST, opens=True, owned=True)
passes(290, "eventfd2", INT, INT, effect=Effect.GUEST, opens=True, owned=True)
passes(319, "memfd_create", PATH, INT, effect=Effect.GUEST, opens=True, owned=True)


@syscall(_CLOSE, "close", FD, effect=Effect.GUEST)
def close(task: Task, descriptor: int) -> int:
    """Close a descriptor. After EINTR it is closed, as Linux has it: no restart."""
    group_state(task).opened.discard(descriptor)
    if task.kernel.files:
        file = task.kernel.files.named(descriptor)
        if file is not None:
            file.closed(task.process.pid)
    result = host.call(_CLOSE, descriptor)
    task.kernel.terminals.look()
    return result


@syscall(_CLOSE_RANGE, "close_range", U32, U32, U32, effect=Effect.GUEST)
def close_range(task: Task, first: int, last: int, flags: int) -> Result:
    """Close, or mark close-on-exec, a range of descriptors; Quire's own are outside every range."""
    if first > last or flags & ~(_CLOSE_RANGE_UNSHARE | _CLOSE_RANGE_CLOEXEC):
        return -errno.EINVAL
    if flags & _CLOSE_RANGE_UNSHARE and task.parts(Clone.FILES):
        return AGAIN
    if first >= FIRST_OWN:
        return 0
    result = host.call(_CLOSE_RANGE, first, min(last, FIRST_OWN - 1), flags & _CLOSE_RANGE_CLOEXEC)
    if result == 0 and not flags & _CLOSE_RANGE_CLOEXEC:
        opened = group_state(task).opened
        opened -= {number for number in opened if first <= number <= last}
        task.kernel.terminals.look()
    return result


@syscall(32, "dup", FD, effect=Effect.GUEST)
def dup(task: Task, descriptor: int) -> int:
    """Copy a descriptor to the lowest free number."""
    result = host.call(32, descriptor)
    return admit(task, result) if result >= 0 else result


def _check_target(task: Task, target: int) -> None:
    if not 0 <= target < group_state(task).descriptor_limit:
        raise fail(errno.EBADF)


def _note(task: Task, source: int, result: int) -> int:
    if result >= 0 and result != source:
        group_state(task).opened.add(result)
        task.kernel.terminals.look()  # what had that number before is closed
    return result


@syscall(33, "dup2", FD, S32, effect=Effect.GUEST)
def dup2(task: Task, source: int, target: int) -> int:
    """Copy a descriptor to a given number. EBADF when that is over the limit or one of Quire's."""
    _check_target(task, target)
    return _note(task, source, host.call(33, source, target))


@syscall(_DUP3, "dup3", FD, S32, U32, effect=Effect.GUEST)
def dup3(task: Task, source: int, target: int, flags: int) -> int:
    """Copy a descriptor to a given number, with O_CLOEXEC if wanted. EINVAL when both are the same."""
    if flags & ~os.O_CLOEXEC or source == target:
        return -errno.EINVAL
    _check_target(task, target)
    return _note(task, source, host.call(_DUP3, source, target, flags))


def deliver_pair(task: Task, pair: bytes, pointer: int) -> int:
    """Give the guest two new descriptors (two C ints), or close both:

    EMFILE, or BadAddress for the pointer.
    """
    ends = [int.from_bytes(pair[at : at + 4], "little") for at in (0, 4)]
    try:
        if max(ends) >= group_state(task).descriptor_limit:
            raise fail(errno.EMFILE)
        for end in ends:
            group_state(task).own(end)
            group_state(task).opened.add(end)
        if host.is_pipe(ends[0]):
            note_pipe(task, ends[0])
        task.memory.write(pointer, pair)
    except Exception:
        group_state(task).opened.difference_update(ends)
        for end in ends:
            os.close(end)
        raise
    return 0


def _pipe(task: Task, pointer: int, flags: int) -> int:
    ends = host.HostBuffer(8)
    result = host.call(_PIPE2, ends.address, flags)
    return result if result < 0 else deliver_pair(task, ends.take(), pointer)


@syscall(22, "pipe", POINTER, effect=Effect.GUEST)
def pipe(task: Task, pointer: int) -> int:
    """Make a pipe."""
    return _pipe(task, pointer, 0)


@syscall(_PIPE2, "pipe2", POINTER, U32, effect=Effect.GUEST)
def pipe2(task: Task, pointer: int, flags: int) -> int:
    """Make a pipe with flags."""
    return _pipe(task, pointer, flags)
