"""Unicorn's own TLB, freed from the wall clock.

Unicorn sizes its TLB when it is flushed, by how full it was in a window of a tenth of a second: how many walks a
program makes would depend on how fast the machine ran. The windows begin at a time that it noted when the engine was
made; they are found by that time, which stands three times at equal distances: any other word that looks like one is
somebody else's and is never written. With each window ended before each flush, the size follows from use alone. If
they are not found, walk counts of ``--detail exits`` may differ a little between runs.
"""

import ctypes
from itertools import combinations

import numpy as np
import numpy.typing as npt

from quire.cpu.soft.objects import REACH, engine_objects

__all__ = ["find_tlb_windows"]

_MOST_BYTES = 4096  # of the engine's descriptor of one TLB, which holds a window


def find_tlb_windows(structure: npt.NDArray[np.uint64], begin_ns: int, end_ns: int) -> list[ctypes.c_uint64]:
    """Return the cells that hold the begin of each TLB's window, in nanoseconds since 1970.

    `structure` is the engine's own structure, whose pointers lead to its objects; the engine was made between the
    two times.
    """
    # What is looked at may hold results of looking at it: it is copied first, to where nobody looks.
    buffer = np.empty(REACH // 8, np.uint64)
    own = range(buffer.ctypes.data, buffer.ctypes.data + REACH)
    found: dict[int, int] = {}
    for pointer, words in engine_objects(structure):
        copied = buffer[: words.size]
        copied[:] = words
        for n in np.flatnonzero((copied >= begin_ns) & (copied <= end_ns)):
            if pointer + 8 * int(n) not in own:
                found[pointer + 8 * int(n)] = int(copied[n])
    rows = [
        row
        for first, second in combinations(sorted(found), 2)
        if (row := (first, second, 2 * second - first))[2] in found
        and second - first < _MOST_BYTES
        and len({found[address] for address in row}) == 1
    ]
    return [ctypes.c_uint64.from_address(address) for address in rows[0]] if len(rows) == 1 else []
