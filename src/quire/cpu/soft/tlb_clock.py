"""Unicorn's own TLB, freed from the wall clock.

Unicorn sizes its TLB when it is flushed, by how full it was in a window of a tenth of a second: how many walks a
program makes would depend on how fast the machine ran. The windows begin at times that it noted when the engine was
made; they are found by those very times, which nothing else in the engine holds. With each window ended before each
flush, the size follows from use alone. If they are not found, walk counts of ``--detail exits`` may differ a little
between runs.
"""

import ctypes
from bisect import bisect_right

import numpy as np
import numpy.typing as npt

__all__ = ["find_tlb_windows"]

_REACH = 1 << 16  # bytes of each of the engine's objects that are looked at


def find_tlb_windows(structure: npt.NDArray[np.uint64], begin_ns: int, end_ns: int) -> list[ctypes.c_uint64]:
    """Return the cells that hold the begin of each TLB's window, in nanoseconds since 1970.

    `structure` is the engine's own structure, whose pointers lead to its objects; the engine was made between the
    two times.
    """
    writable = _writable_ranges()
    starts = [start for start, _ in writable]
    found: set[int] = set()
    for pointer in {int(word) for word in structure if word and not word & np.uint64(7)}:
        at = bisect_right(starts, pointer) - 1
        if at < 0 or pointer + 8 > writable[at][1]:
            continue
        length = min(_REACH, writable[at][1] - pointer) & ~7
        words = _words(pointer, length)
        found |= {pointer + 8 * int(n) for n in np.nonzero((words >= begin_ns) & (words <= end_ns))[0]}
    return [ctypes.c_uint64.from_address(address) for address in sorted(found)]


def _words(address: int, length: int) -> npt.NDArray[np.uint64]:
    cells = (ctypes.c_uint64 * (length // 8)).from_address(address)
    return np.ctypeslib.as_array(cells)


def _writable_ranges() -> list[tuple[int, int]]:
    """Return this process's private writable memory, ascending: what may be read without a fault."""
    ranges = []
    with open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            span, rights, *_ = line.split()
            if rights == "rw-p":
                start, end = span.split("-")
                ranges.append((int(start, 16), int(end, 16)))
    return ranges
