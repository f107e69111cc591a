"""What the kernel does for secure memory: protecting, locking and leaving out of core dumps, frame by frame.

Models: mprotect, mlock, madvise on ranges of host frames. Does not model: who may ask. Fails: BackendError when the
kernel refuses, with the limit that it met.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from collections.abc import Callable

from quire import failpoints
from quire.errors import BackendError
from quire.memory.host import FRAME_SHIFT, HostMemory

CLOSED = 0  # PROT_NONE
READABLE = int(mmap.PROT_READ)
WRITABLE = int(mmap.PROT_READ | mmap.PROT_WRITE)

_NAMES = {CLOSED: "inaccessible", READABLE: "readable", WRITABLE: "writable"}
_MADV_DONTDUMP, _MADV_DODUMP = (
    16,
    17,
)  # Linux; the mmap module names them from Python 3.8 on some systems only

_libc = ctypes.CDLL(None, use_errno=True)
for _function, _last in (("mprotect", ctypes.c_int), ("madvise", ctypes.c_int)):
    getattr(_libc, _function).argtypes = (ctypes.c_void_p, ctypes.c_size_t, _last)
for _function in ("mlock", "munlock"):
    getattr(_libc, _function).argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def protect(host: HostMemory, hfn: int, count: int, protection: int) -> None:
    """Make frames CLOSED, READABLE or WRITABLE for this process. BackendError when the kernel refuses."""
    _call(
        "protect host memory",
        lambda start, size: int(_libc.mprotect(start, size, protection)),
        host,
        hfn,
        count,
        lambda code: (
            f"cannot make {count:#x} frames from {hfn:#x} {_NAMES[protection]}: {os.strerror(code)}; "
            "each region divides the mapping: see vm.max_map_count"
        ),
    )


def lock(host: HostMemory, hfn: int, count: int) -> None:
    """Keep accessible frames in memory (mlock). BackendError when the limit RLIMIT_MEMLOCK is too low."""
    _call(
        "lock host memory",
        lambda start, size: int(_libc.mlock(start, size)),
        host,
        hfn,
        count,
        lambda code: (
            f"cannot lock {count << FRAME_SHIFT:#x} bytes in memory: {os.strerror(code)}; RLIMIT_MEMLOCK is "
            f"{_memlock()}: raise it with 'ulimit -l', or allocate with lock='try' or lock='no'"
        ),
    )


def unlock(host: HostMemory, hfn: int, count: int) -> None:
    """Let frames be swapped again. A refusal keeps them locked and does no other harm: nothing is raised."""
    try:
        _call(
            "unlock host memory",
            lambda start, size: int(_libc.munlock(start, size)),
            host,
            hfn,
            count,
            lambda code: f"cannot unlock {count:#x} frames from {hfn:#x}: {os.strerror(code)}",
        )
    except BackendError:
        pass


def dump(host: HostMemory, hfn: int, count: int, wanted: bool) -> None:
    """Put frames into core dumps of this process or leave them out. BackendError when the kernel refuses."""
    _call(
        "leave out of dumps",
        lambda start, size: int(_libc.madvise(start, size, _MADV_DODUMP if wanted else _MADV_DONTDUMP)),
        host,
        hfn,
        count,
        lambda code: (
            f"cannot leave {count:#x} frames from {hfn:#x} out of core dumps: {os.strerror(code)}; "
            "the kernel has to support MADV_DONTDUMP"
        ),
    )


def scrub(host: HostMemory, hfn: int, count: int) -> None:
    """Overwrite accessible frames with zeros. MisuseError when one is outside the memory."""
    host.fill(hfn, count, 0)


def _call(
    site: str,
    function: Callable[[int, int], int],
    host: HostMemory,
    hfn: int,
    count: int,
    text: Callable[[int], str],
) -> None:
    host.read(0, 0)  # says so when the memory is closed
    if failpoints.armed is not None:
        failpoints.reach(site, lambda: BackendError(errno.ENOMEM, text(errno.ENOMEM)))
    if function(host.address + (hfn << FRAME_SHIFT), count << FRAME_SHIFT):
        code = ctypes.get_errno()
        raise BackendError(code, text(code))


def _memlock() -> str:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:#x} bytes"
