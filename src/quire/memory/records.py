"""Per-frame records: arrays of zeros, one element for each frame, that cost only what is written to them.

Models: nothing; it is how a pool of 64 GiB is made in microseconds. `numpy.zeros` is nearly the same but asks
the kernel for huge pages, so that the first write to each 2 MiB of records clears 2 MiB: 14 MiB and up to 30
ms for a 64 GiB pool, measured. Fails: BackendError when the address space has no room.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from quire import failpoints
from quire.errors import BackendError

MAP_NORESERVE: Final = 0x4000  # Linux x86-64; the mmap module names it only from Python 3.13 on

Scalar = TypeVar("Scalar", bound="np.generic[Any]")


def lazy_zeros(count: int, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Return a writable array of ``count`` zeros (at least 1) that becomes resident as it is written.

    The memory goes back when the last view is gone. BackendError when so much cannot be mapped.
    """
    size = count * np.dtype(dtype).itemsize
    if failpoints.armed is not None:
        failpoints.reach("map frame records", lambda: _no_records(size, errno.ENOMEM))
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    except OSError as error:
        raise _no_records(size, error.errno or 0) from error
    with contextlib.suppress(OSError):  # a kernel built without huge pages does not know this advice
        mapping.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(mapping, dtype=dtype)


def _no_records(size: int, code: int) -> BackendError:
    return BackendError(
        code,
        f"cannot map {size:#x} bytes of frame records: {os.strerror(code)}; "
        "make the pool smaller, or raise the limit shown by 'ulimit -v'",
    )
