"""Quire's own process made fit for a guest that shares it: descriptors and streams out of its sight, few threads."""

import ctypes
import gc
import os
import resource
import signal
import threading

from quire.errors import BackendError
from quire.guest.own_streams import hide_streams
from quire.own_descriptors import make_room

__all__ = [
    "ADDRESS_SPACE",
    "claim_process",
    "end_with_parent",
    "few_threads",
    "freeze_loaded",
    "is_own_process",
    "prepare_process",
]

_PR_SET_PDEATHSIG = 1
#: Bytes of addresses that a run takes beside the guest's memory: two engines with 1 GiB each to translate code into
#: (the library calls exit where it gets none), compiler and libraries. `true` took 2.44 GiB.
ADDRESS_SPACE = 11 << 28
_OWN_DESCRIPTORS = "/proc/self/fd"
_POOL = "OPENBLAS_NUM_THREADS"
_ADDED: set[bytes] = set()
_OWN = threading.Event()
#: So many new ones before garbage is looked for: nearly as many as a run loads.
_OBJECTS = 50_000


def few_threads() -> None:
    """Let NumPy start no pool of threads: they cost start-up time, and signals for the guest may reach them.

    To be called before NumPy is imported. The guest does not see what this puts into the environment.
    """
    if _POOL not in os.environ:
        os.environ[_POOL] = "1"
        _ADDED.add(os.fsencode(_POOL))


def claim_process() -> None:
    """Say that this process is Quire's alone: it was started for one command, and ends with it.

    What it loads stays, so that garbage is looked for rarely: a tenth of a short command's time.
    """
    _OWN.set()
    gc.set_threshold(_OBJECTS)


def is_own_process() -> bool:
    """Whether this process is Quire's alone, so that descriptors may be replaced and walls put up for good."""
    return _OWN.is_set()


def prepare_process(memory: int) -> dict[bytes, bytes]:
    """Make this process fit to run a guest with `memory` bytes; return the environment of the guest, the user's own.

    Raises BackendError for what this machine lacks.
    """
    environ = {name: value for name, value in os.environb.items() if name not in _ADDED}
    if not os.path.isdir(_OWN_DESCRIPTORS):
        raise BackendError(f"{_OWN_DESCRIPTORS} is not there, and a guest needs it: mount proc on /proc")
    _check_address_space(memory)
    make_room()
    hide_streams()
    return environ


def _check_address_space(memory: int) -> None:
    """Raise BackendError if the process may not have as many addresses as a run takes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    needed = ADDRESS_SPACE + memory
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise BackendError(
            f"the limit on address space is {soft >> 20} MiB (ulimit -v), and the engine ends the process where "
            f"it finds none: raise it to {-(-needed >> 20)} MiB or more, or give less --memory"
        )


def end_with_parent() -> None:
    """Have the kernel end this process with the thread that started it. One that has ended before is not noticed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def freeze_loaded() -> None:
    """What is loaded by now stays: no collection of garbage need look at it while the guest runs."""
    gc.freeze()
