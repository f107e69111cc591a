"""The engine's objects in this process's memory: where fields that no call offers are looked for.

Only memory that is mapped private and writable is read, so that a stray word is never followed to a fault.
"""

import ctypes
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["REACH", "engine_objects"]

REACH = 1 << 16  # bytes of each of the engine's objects that are looked at


def engine_objects(structure: npt.NDArray[np.uint64]) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Yield address and words of each object that a pointer in `structure`, the engine's own, leads to."""
    writable = _writable_ranges()
    starts = [start for start, _ in writable]
    for pointer in sorted({int(word) for word in structure if word and not word & np.uint64(7)}):
        at = bisect_right(starts, pointer) - 1
        if at < 0 or pointer + 8 > writable[at][1]:
            continue
        length = min(REACH, writable[at][1] - pointer) & ~7
        cells = (ctypes.c_uint64 * (length // 8)).from_address(pointer)
        yield pointer, np.ctypeslib.as_array(cells)


def _writable_ranges() -> list[tuple[int, int]]:
    """Return this process's private writable memory, ascending: what may be read without a fault.

    The engine makes parts of the heap executable, which splits it into ranges that are one again here.
    """
    ranges: list[tuple[int, int]] = []
    with open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            span, rights, *_ = line.split()
            if rights in ("rw-p", "rwxp"):
                start, end = (int(address, 16) for address in span.split("-"))
                if ranges and ranges[-1][1] == start:
                    start = ranges.pop()[0]
                ranges.append((start, end))
    return ranges
