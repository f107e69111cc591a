"""The batched walk for NumPy arrays."""

import numpy as np
import numpy.typing as npt

from quire.arch import Access
from quire.errors import MisuseError
from quire.paging.context import RESULT_WORDS, Words

__all__ = ["walk_many"]


def walk_many(
    memory: Words, context: Words, gvas: npt.NDArray[np.uint64], access: Access
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Translate each of `gvas` for `access`; return the HPAs (error code or qualification if not OK) and statuses.

    `gvas` is one-dimensional. SDM 3A §4.5 and SDM 3C §28.3; sets flags as single walks would. Raises MisuseError for
    an array of another type or shape.
    """
    from quire.paging.batch._kernels import SCRATCH_WORDS, walk_batch

    if gvas.ndim != 1 or gvas.dtype != np.uint64:
        raise MisuseError(
            f"Addresses of shape {gvas.shape} and type {gvas.dtype} cannot be walked: give one row of uint64"
        )
    values, statuses = np.zeros(len(gvas), np.uint64), np.zeros(len(gvas), np.uint8)
    scratch = np.zeros(SCRATCH_WORDS + RESULT_WORDS, np.uint64)
    walk_batch(
        memory,
        context,
        np.ascontiguousarray(gvas),
        np.uint64(access),
        values,
        statuses,
        scratch[:SCRATCH_WORDS],
        scratch[SCRATCH_WORDS:],
    )
    return values, statuses
