"""Quire's own descriptors in a process that it shares with a guest: above all that the guest may name."""

import fcntl
import os
import resource
import stat

from quire.errors import BackendError

__all__ = ["empty", "make_room", "move_high"]

#: Descriptors that Quire opens for itself are moved here, so that a guest's are numbered as in a native run.
_OWN_DESCRIPTORS = 900
#: How many there may be: as many as are wanted, and as few as a run gets by with.
_ROOM, _LEAST = 256, 64


def make_room() -> None:
    """Raise this process's limit on descriptors as far as Quire's own need it. Raises BackendError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN_DESCRIPTORS + _ROOM
    if hard != resource.RLIM_INFINITY and hard < _OWN_DESCRIPTORS + _LEAST:
        raise BackendError(
            f"the limit on open files is {hard} (ulimit -n), and Quire has its own at {_OWN_DESCRIPTORS} and above, "
            f"out of the guest's sight: raise it to {wanted} or more"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def move_high(fd: int, *, close: bool = True) -> int:
    """Return a copy of `fd` where no guest's descriptor is, and close it, if `close` says so. Raises OSError."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OWN_DESCRIPTORS)
    if close:
        os.close(fd)
    return int(moved)


def empty(fd: int) -> None:
    """Empty the file of `fd` before it is written, if it is one that keeps what is written. Raises OSError."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.ftruncate(fd, 0)
