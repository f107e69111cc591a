"""Memory files and pipes that the guest made: how much of the host's memory they hold, or would hold after a call."""

import errno
import fcntl
import os
import stat

from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import fail
from quire.guest.syscalls.state import group_state

__all__ = ["note_pipe", "reclaim", "reserve_file", "reserve_pipe"]

_BLOCK = 512  # bytes of a unit of st_blocks
_MEMORY_FILE = "/memfd:"


def _size(descriptor: int) -> int | None:
    """Return how much memory stands behind a descriptor; None when it is neither a memory file nor a pipe."""
    status = os.fstat(descriptor)
    if stat.S_ISFIFO(status.st_mode):
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    if stat.S_ISREG(status.st_mode) and host.path_of(descriptor).startswith(_MEMORY_FILE):
        return max(status.st_size, status.st_blocks * _BLOCK)
    return None


def reclaim(group: ThreadGroup) -> bool:
    """Count anew what the guest's channels hold; return whether some went since, which leaves room."""
    channels, found = group_state(group).channels, {}
    for name in os.listdir("/proc/thread-self/fd"):
        identity = host.identity_of(int(name))
        if identity in channels and identity not in found:
            found[identity] = _size(int(name)) or 0
    return group.host_memory.count_only(found)


def _reserve(group: ThreadGroup, descriptor: int, size: int, refused: int) -> None:
    identity = host.identity_of(descriptor)
    if identity is None:
        return
    memory = group.host_memory
    while not memory.count(identity, size):
        if not group.space.pages.shared.reclaim() and not reclaim(group):
            raise fail(refused)


def reserve_file(group: ThreadGroup, descriptor: int, end: int) -> None:
    """Have room for a memory file of the guest's that reaches to `end`; ENOSPC when there is none. Others are free."""
    identity = host.identity_of(descriptor)
    if identity is None or identity not in group_state(group).channels:
        return
    size = _size(descriptor)
    if size is not None and end > group.host_memory.size_of(identity):
        _reserve(group, descriptor, max(size, end), errno.ENOSPC)


def reserve_pipe(group: ThreadGroup, descriptor: int, size: int) -> None:
    """Have room for a pipe of the guest's with a buffer of `size`; ENOMEM when there is none."""
    if group_state(group).made(descriptor) and size > fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ):
        _reserve(group, descriptor, size, errno.ENOMEM)


def note_pipe(group: ThreadGroup, descriptor: int) -> None:
    """Have room for a pipe that was just made; ENFILE when there is none."""
    _reserve(group, descriptor, fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ), errno.ENFILE)
