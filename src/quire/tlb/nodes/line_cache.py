"""The last cache before memory, as an array for compiled code: 64-byte lines of host-physical memory, LRU in sets.

Models which references of page walks and data reach memory; not what lies before it, coherence, or prefetching.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError

__all__ = ["LINE_SHIFT", "WAYS", "LineCache", "line_cache"]

LINE_SHIFT = 6
WAYS = 16


class LineCache(IntEnum):
    """Words of the array; behind them are the tags, then the stamps of the last use, a set after the other."""

    SETS = 0  #: 0: there is no cache, every reference reaches memory
    CLOCK = 1
    TAGS = 2


def line_cache(size: int) -> npt.NDArray[np.uint64]:
    """Return an empty cache of `size` bytes, rounded down to whole sets of 16 lines; 0 for none.

    Raises MisuseError for a size below 1 KiB that is not 0.
    """
    sets = size >> LINE_SHIFT - 1 + WAYS.bit_length()
    if size < 0 or (size and not sets):
        raise MisuseError(
            f"A cache of {size} bytes has no set: give at least {WAYS << LINE_SHIFT}, or 0 for none"
        )
    array = np.zeros(LineCache.TAGS + 2 * sets * WAYS, np.uint64)
    array[LineCache.SETS] = sets
    return array
