"""Opening a FIFO, which waits for somebody at its other end."""

import errno
import os
import select
import stat

from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls import host

__all__ = ["open_fifo"]

_OPENAT, _AT_FDCWD = 257, -100
_FCNTL, _SETFL = 72, 4


def _identity(directory: int, path: bytes) -> tuple[int, int] | None:
    """Return device and inode of the FIFO that a path names; None for anything else."""
    try:
        status = os.stat(path, dir_fd=None if directory == _AT_FDCWD else directory)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISFIFO(status.st_mode) else None


def open_fifo(task: Task, directory: int, path: bytes, flags: int) -> int | None:
    """Open a FIFO as Linux does, without waiting in the host; None for what is none, or never waits.

    A reader that has its end already waits for a writer, of the guest or from outside. A writer waits for a reader.
    """
    way = flags & os.O_ACCMODE
    if flags & (os.O_NONBLOCK | os.O_PATH) or way == os.O_RDWR:
        return None
    identity = _identity(directory, path)
    if identity is None:
        return None
    queue = task.kernel.fifo(identity)
    held = task.kept.get("fifo")
    if held is not None:
        if not task.woken and not _has_writer(held):
            if task.signals.deliverable:
                os.close(held)
                return -errno.EINTR
            raise Blocks(queues=((queue, way),), files=((held, select.POLLIN),))
        host.call(_FCNTL, held, _SETFL, flags & ~os.O_ACCMODE)
        return held
    if way == os.O_WRONLY and not task.kernel.has_company:
        return None  # only somebody outside can be the reader: the host waits for him
    name = host.HostBuffer(len(path), path)
    opened = host.call(_OPENAT, directory, name.address, flags | os.O_NONBLOCK)
    if opened == -errno.ENXIO:
        raise Blocks(queues=((queue, way),))
    if opened < 0:
        return opened
    others = queue.wake(chosen=lambda waiter: waiter.tag != way)
    if way == os.O_RDONLY and not others:
        task.kept["fifo"] = opened
        raise Blocks(queues=((queue, way),), files=((opened, select.POLLIN),))
    host.call(_FCNTL, opened, _SETFL, flags & ~os.O_ACCMODE)
    return opened


def _has_writer(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
