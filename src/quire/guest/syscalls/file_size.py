"""RLIMIT_FSIZE: how far a guest may make a file reach. Who goes beyond gets SIGXFSZ, and EFBIG."""

import errno
import os
import resource
import signal
import stat

from quire.arch import WORD
from quire.guest.kernel.siginfo import SI_USER, SignalInfo
from quire.guest.kernel.task import Task
from quire.guest.syscalls.kinds import fail
from quire.guest.syscalls.state import group_state

__all__ = ["check_new_size", "is_limited", "writable"]


def _limit(task: Task) -> int:
    return group_state(task).limits[resource.RLIMIT_FSIZE][0]


def is_limited(task: Task) -> bool:
    """Whether there is a limit at all."""
    return _limit(task) != WORD


def _refuse(task: Task) -> OSError:
    task.signals.queue(SignalInfo(signal.SIGXFSZ, SI_USER, pid=task.process.pid, uid=os.getuid()))
    return fail(errno.EFBIG)


def writable(task: Task, descriptor: int, start: int, count: int) -> int:
    """Return how many of `count` bytes may be written to a file from `start` on; EFBIG when none may.

    The limit is for files alone, not for pipes and devices.
    """
    limit = _limit(task)
    if limit == WORD or not count or not _is_file(descriptor):
        return count
    if start >= limit:
        raise _refuse(task)
    return min(count, limit - start)


def check_new_size(task: Task, size: int, now: int) -> None:
    """Raise EFBIG when a file of `now` bytes may not grow to `size`."""
    if size > now and size > _limit(task):
        raise _refuse(task)


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False
