"""Calls on descriptors themselves: close, dup, pipe, fcntl, and the makers of event channels.

Guest descriptors are host descriptors. Quire's own lie at :data:`QUIRE_DESCRIPTORS` and above, where no guest
may name them, so the lowest free number is the one that a native run would get.
"""

import errno
import fcntl as posix
import os

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import FD, INT, PATH, POINTER, S32, SYNCED_FD, U32, In, Out, fail
from quire.guest.syscalls.state import QUIRE_DESCRIPTORS, admit, group_state
from quire.guest.syscalls.table import passes, syscall

__all__ = ["deliver_pair"]

_CLOSE, _DUP3, _FCNTL, _CLOSE_RANGE, _PIPE2 = 3, 292, 72, 436, 293
_TIMER = 32  # struct itimerspec
_FLOCK = 32  # struct flock
_OWNER = 8  # struct f_owner_ex
_HINT = 8

_COPIES = {0, 1030}  # F_DUPFD, F_DUPFD_CLOEXEC
_PLAIN = {1, 2, 3, 4, 8, 9, 10, 11, 1025, 1031, 1032, 1033, 1034}
_LOCKS_SET = {6, 7, 37, 38}  # F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
_STRUCTS = {5: _FLOCK, 36: _FLOCK, 15: _OWNER, 16: _OWNER, 1035: _HINT, 1036: _HINT, 1037: _HINT, 1038: _HINT}

passes(284, "eventfd", INT, opens=True, owned=True)
passes(290, "eventfd2", INT, INT, opens=True, owned=True)
passes(319, "memfd_create", PATH, INT, opens=True, owned=True)
passes(283, "timerfd_create", INT, INT, opens=True)
passes(286, "timerfd_settime", FD, INT, In(_TIMER), Out(_TIMER, nullable=True))
passes(287, "timerfd_gettime", FD, Out(_TIMER))


@syscall(_CLOSE, "close", SYNCED_FD)
def close(task: Task, descriptor: int) -> int:
    """Close a descriptor. After EINTR it is closed, as Linux has it: no restart."""
    return host.call(_CLOSE, descriptor)


@syscall(_CLOSE_RANGE, "close_range", U32, U32, U32)
def close_range(task: Task, first: int, last: int, flags: int) -> int:
    """Close, or mark close-on-exec, a range of descriptors; Quire's own are outside every range."""
    if first > last:
        return -errno.EINVAL
    if first >= QUIRE_DESCRIPTORS:
        return 0 if not flags & ~6 else -errno.EINVAL
    return host.call(_CLOSE_RANGE, first, min(last, QUIRE_DESCRIPTORS - 1), flags)


@syscall(32, "dup", FD)
def dup(task: Task, descriptor: int) -> int:
    """Copy a descriptor to the lowest free number."""
    result = host.call(32, descriptor)
    return admit(task, result) if result >= 0 else result


def _check_target(task: Task, target: int) -> None:
    if not 0 <= target < group_state(task).descriptor_limit:
        raise fail(errno.EBADF)


@syscall(33, "dup2", FD, S32)
def dup2(task: Task, source: int, target: int) -> int:
    """Copy a descriptor to a given number. EBADF when that is over the limit or one of Quire's."""
    _check_target(task, target)
    return host.call(33, source, target)


@syscall(_DUP3, "dup3", FD, S32, U32)
def dup3(task: Task, source: int, target: int, flags: int) -> int:
    """Copy a descriptor to a given number, with O_CLOEXEC if wanted. EINVAL when both are the same."""
    if flags & ~os.O_CLOEXEC or source == target:
        return -errno.EINVAL
    _check_target(task, target)
    return host.call(_DUP3, source, target, flags)


def deliver_pair(task: Task, pair: bytes, pointer: int) -> int:
    """Give the guest two new descriptors (two C ints), or close both:

    EMFILE, or BadAddress for the pointer.
    """
    ends = [int.from_bytes(pair[at : at + 4], "little") for at in (0, 4)]
    try:
        if max(ends) >= group_state(task).descriptor_limit:
            raise fail(errno.EMFILE)
        task.memory.write(pointer, pair)
    except Exception:
        for end in ends:
            os.close(end)
        raise
    for end in ends:
        group_state(task).own(end)
    return 0


def _pipe(task: Task, pointer: int, flags: int) -> int:
    ends = host.HostBuffer(8)
    result = host.call(_PIPE2, ends.address, flags)
    return result if result < 0 else deliver_pair(task, ends.take(), pointer)


@syscall(22, "pipe", POINTER)
def pipe(task: Task, pointer: int) -> int:
    """Make a pipe."""
    return _pipe(task, pointer, 0)


@syscall(_PIPE2, "pipe2", POINTER, U32)
def pipe2(task: Task, pointer: int, flags: int) -> int:
    """Make a pipe with flags."""
    return _pipe(task, pointer, flags)


def _fcntl_struct(task: Task, descriptor: int, command: int, pointer: int, size: int) -> int:
    buffer = host.HostBuffer(size, task.memory.read(pointer, size))
    result = host.call(_FCNTL, descriptor, command, buffer.address)
    if result >= 0 and command not in _LOCKS_SET:
        task.memory.write(pointer, buffer.take())
    return result


@syscall(_FCNTL, "fcntl", FD, S32, INT, restart=True)
def fcntl(task: Task, descriptor: int, command: int, argument: int) -> int:
    """Control a descriptor: flags, copies, record locks, owner, pipe size.

    EINVAL for what Quire does not know.
    """
    if command in _COPIES:
        if not 0 <= argument & LOW32 < group_state(task).descriptor_limit:
            # Linux looks at the descriptor first.
            flags = host.call(_FCNTL, descriptor, posix.F_GETFD)
            return -errno.EINVAL if flags >= 0 else flags
        result = host.call(_FCNTL, descriptor, command, argument)
        return admit(task, result) if result >= 0 else result
    if command in _PLAIN:
        return host.call(_FCNTL, descriptor, command, argument)
    size = _FLOCK if command in _LOCKS_SET else _STRUCTS.get(command)
    if size is None:
        flags = host.call(_FCNTL, descriptor, posix.F_GETFD)
        return -errno.EINVAL if flags >= 0 else flags
    return _fcntl_struct(task, descriptor, command, argument, size)
