"""Signals that are read by descriptors: signalfd."""

import errno
import os

from quire.guest.kernel.signal_file import SignalFile
from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, fail, signed32
from quire.guest.syscalls.played import open_played
from quire.guest.syscalls.table import syscall

_SET_BYTES = 8
_NEW = -1
_SIGNALFD4 = 289


def _signalfd(task: Task, descriptor: int, pointer: int, size: int, flags: int) -> int:
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK) or size != _SET_BYTES:
        return -errno.EINVAL
    mask = task.memory.read_u64(pointer)
    if descriptor == _NEW:
        return open_played(task, SignalFile(mask), flags)
    file = task.kernel.files.named(descriptor)
    if not isinstance(file, SignalFile):
        raise fail(errno.EINVAL)
    file.select(mask)
    file.ring()  # who waits looks again
    return descriptor


@syscall(282, "signalfd", S32, POINTER, INT, effect=Effect.PLAYED)
def signalfd(task: Task, descriptor: int, pointer: int, size: int) -> int:
    """Make a descriptor by which signals of a set are read, or have one be about another set."""
    return _signalfd(task, descriptor, pointer, size, 0)


@syscall(_SIGNALFD4, "signalfd4", S32, POINTER, INT, INT, effect=Effect.PLAYED)
def signalfd4(task: Task, descriptor: int, pointer: int, size: int, flags: int) -> int:
    """Do as :func:`signalfd` does, with flags for a new descriptor."""
    return _signalfd(task, descriptor, pointer, size, signed32(flags))
