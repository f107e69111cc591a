"""Quire's own descriptors in a process that it shares with a guest: above all that the guest may name.

So a guest's descriptors are numbered as in a native run. Where Quire's begin depends on the limit of open files, which
is raised as far as it can be: a guest that wants thousands finds them.
"""

import errno
import fcntl
import os
import resource
import stat

from quire.errors import BackendError

__all__ = ["DESCRIPTOR_LIMITS", "FIRST_OWN", "LEAST_OPEN_FILES", "empty", "make_room", "move_high"]

#: The limits on open files that Quire was started with, soft and hard.
DESCRIPTOR_LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)
#: The kernel's table of descriptors grows with the highest number; this keeps it below a megabyte.
_MOST = 1 << 16
#: Of all descriptors one in so many is Quire's, which holds one for each file that a guest has mapped.
_SHARE = 16
_LEAST_OWN, LEAST_OPEN_FILES = 128, 256


def _all() -> int:
    hard = DESCRIPTOR_LIMITS[1]
    return _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)


#: Quire's own descriptors have this number and above; no guest may name one.
FIRST_OWN = max(_all() - max(_all() // _SHARE, _LEAST_OWN), 0)


def make_room() -> None:
    """Raise this process's limit on descriptors as far as Quire's own need it. Raises BackendError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _all() < LEAST_OPEN_FILES:
        raise BackendError(
            f"the limit on open files is {_all()} (ulimit -Hn), and Quire needs {_LEAST_OWN} beside the guest's: "
            f"raise it to {LEAST_OPEN_FILES} or more"
        )
    if soft != resource.RLIM_INFINITY and soft < _all():
        resource.setrlimit(resource.RLIMIT_NOFILE, (_all(), hard))


def move_high(fd: int, *, close: bool = True) -> int:
    """Return a copy of `fd` where no guest's descriptor is, and close it, if `close` says so. Raises OSError."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: nobody made room so far
            raise
        make_room()
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_OWN)
    if close:
        os.close(fd)
    return int(moved)


def empty(fd: int) -> None:
    """Empty the file of `fd` before it is written, if it is one that keeps what is written. Raises OSError."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        os.ftruncate(fd, 0)
