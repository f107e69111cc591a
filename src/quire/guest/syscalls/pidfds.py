"""Descriptors that stand for processes of the guest: host descriptors of an event that the process's end raises."""

import errno
import os
from weakref import WeakKeyDictionary

from quire.guest.kernel.group import Process
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import may_signal
from quire.guest.syscalls.kinds import FD, POINTER, S32, U32, fail
from quire.guest.syscalls.state import admit
from quire.guest.syscalls.table import syscall
from quire.own_descriptors import move_high

__all__ = ["is_pidfd", "open_pidfd", "process_behind", "process_of"]

_THREAD = os.O_EXCL
#: The memory file that a descriptor names, by (device, inode), and the process it stands for.
_PROCESSES: "WeakKeyDictionary[object, dict[tuple[int, int], Process]]" = WeakKeyDictionary()


def _known(task: Task) -> dict[tuple[int, int], Process]:
    return _PROCESSES.setdefault(task.kernel, {})


def process_behind(task: Task, identity: tuple[int, int]) -> Process | None:
    """Return the process that a descriptor with this device and inode stands for, None for another kind."""
    return _known(task).get(identity)


def process_of(task: Task, descriptor: int) -> Process | None:
    """Return the process that a descriptor stands for, None for another kind of descriptor."""
    identity = host.identity_of(descriptor)
    return None if identity is None else process_behind(task, identity)


def is_pidfd(task: Task, status: os.stat_result) -> bool:
    """Whether a descriptor with this status stands for a process: it can be neither read nor written."""
    return (status.st_dev, status.st_ino) in _known(task)


def open_pidfd(task: Task, process: Process, flags: int) -> int:
    """Return a new descriptor that stands for `process`: EMFILE."""
    # A pipe of its own, open to read and write: it has an identity, and can be read from the process's end on.
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    own = move_high(
        os.open(f"/proc/thread-self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC | flags & os.O_NONBLOCK)
    )
    os.dup2(own, reader, inheritable=False)
    descriptor = admit(task, reader)
    if descriptor < 0:
        os.close(own)
        return descriptor
    identity = host.identity_of(descriptor)
    assert identity is not None
    _known(task)[identity] = process
    task.kernel.at_end(process, f"/proc/self/task/{task.process.seat.native_id}/fd/{own}")
    return descriptor


@syscall(434, "pidfd_open", S32, U32, effect=Effect.PLAYED)
def pidfd_open(task: Task, number: int, flags: int) -> int:
    """Return a descriptor that stands for a process. EINVAL for a thread that is not the first of its process."""
    if flags & ~(os.O_NONBLOCK | _THREAD) or number <= 0:
        return -errno.EINVAL
    process = task.kernel.processes.get(number)
    if process is None:
        return -errno.EINVAL if task.kernel.task(number) is not None else -errno.ESRCH
    return open_pidfd(task, process, flags)


@syscall(424, "pidfd_send_signal", FD, S32, POINTER, U32, effect=Effect.PLAYED)
def pidfd_send_signal(task: Task, descriptor: int, signo: int, info: int, flags: int) -> int:
    """Send a signal to the process that a descriptor stands for."""
    process = process_of(task, descriptor)
    if process is None:
        raise fail(errno.EBADF)
    if process.pid not in task.kernel.processes:
        return -errno.ESRCH
    if not may_signal(task, process.leader, signo):
        return -errno.EPERM
    return task.kernel.kill(task.process, process, signo)
