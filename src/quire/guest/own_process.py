"""Quire's own process made fit for a guest that shares it: descriptors out of its sight, room for them, few threads."""

import fcntl
import gc
import os
import resource

__all__ = ["few_threads", "freeze_loaded", "move_high", "prepare_process"]

#: Descriptors that Quire opens for itself are moved here, so that a guest's are numbered as in a native run.
_OWN_DESCRIPTORS = 900
_ROOM = 256
_POOL = "OPENBLAS_NUM_THREADS"
_ADDED: set[bytes] = set()


def few_threads() -> None:
    """Let NumPy start no pool of threads: they cost start-up time, and signals for the guest may reach them.

    To be called before NumPy is imported. The guest does not see what this puts into the environment.
    """
    if _POOL not in os.environ:
        os.environ[_POOL] = "1"
        _ADDED.add(os.fsencode(_POOL))


def prepare_process() -> dict[bytes, bytes]:
    """Make this process fit to run a guest; return the environment that the guest gets, which is the user's."""
    environ = {name: value for name, value in os.environb.items() if name not in _ADDED}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN_DESCRIPTORS + _ROOM
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return environ


def move_high(fd: int, *, close: bool = True) -> int:
    """Return a copy of `fd` where no guest's descriptor is, and close it, if `close` says so. Raises OSError."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _OWN_DESCRIPTORS)
    if close:
        os.close(fd)
    return int(moved)


def freeze_loaded() -> None:
    """What is loaded by now stays: no collection of garbage need look at it while the guest runs."""
    gc.freeze()
