"""Quire's own process made fit for a guest that shares it: descriptors and streams out of its sight, few threads."""

import ctypes
import gc
import os
import signal

from quire.errors import BackendError
from quire.guest.own_descriptors import make_room
from quire.guest.own_streams import hide_streams

__all__ = ["end_with_parent", "freeze_loaded", "prepare_process"]

_PR_SET_PDEATHSIG = 1
_OWN_DESCRIPTORS = "/proc/self/fd"


def prepare_process() -> dict[bytes, bytes]:
    """Make this process fit to run a guest; return the environment that the guest gets, which is the user's.

    Raises BackendError for what this machine lacks.
    """
    environ = dict(os.environb)
    if not os.path.isdir(_OWN_DESCRIPTORS):
        raise BackendError(
            f"{_OWN_DESCRIPTORS} is not there, which running a guest needs: mount proc on /proc"
        )
    make_room()
    hide_streams()
    # NumPy's pool of threads would only cost start-up time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return environ


def end_with_parent() -> None:
    """Have the kernel end this process with the thread that started it. One that has ended before is not noticed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def freeze_loaded() -> None:
    """What is loaded by now stays: no collection of garbage need look at it while the guest runs."""
    gc.freeze()
