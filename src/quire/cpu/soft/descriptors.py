"""The global descriptor table of process guests: the segments that Linux lets a program load, for the engine to read.

As Linux lays it out (arch/x86/include/asm/segment.h): 0x2B is data, 0x33 is 64-bit code, 0x7B is the segment whose
limit says the CPU, which is 0. All others are not there: loading one is #GP. Not modelled: 0x23, the code segment of
32-bit programs, and the segments of set_thread_area and modify_ldt.
"""

import numpy as np

from quire.arch import ACCESS_RIGHTS, PAGE_SIZE
from quire.cpu.soft.engine import Engine

__all__ = ["TABLE", "TABLE_HPA", "Descriptors"]

#: Linear address of the table, in the half of a kernel, where Linux has the table of its first CPU.
TABLE = 0xFFFF_FE00_0000_1000
#: What it translates to: a page of the engine's own, above any host memory.
TABLE_HPA = 1 << 46
_LIMIT = 0x7F
_DATA, _CODE, _DATA_READ_ONLY_DOWN = 3, 11, 5  # segment types, each with its accessed bit set
_FLAT = {"S": 1, "DPL": 3, "P": 1}
#: Rights and limit, in pages where G is set, by selector without its RPL.
_SEGMENTS = {
    0x28: (ACCESS_RIGHTS.encode(type=_DATA, DB=1, G=1, **_FLAT), 0xFFFFF),
    0x30: (ACCESS_RIGHTS.encode(type=_CODE, L=1, G=1, **_FLAT), 0xFFFFF),
    0x78: (ACCESS_RIGHTS.encode(type=_DATA_READ_ONLY_DOWN, DB=1, **_FLAT), 0),
}


class Descriptors:
    """Gives `engine` the table, in a page of this object's."""

    def __init__(self, engine: Engine) -> None:
        self._octets = np.zeros(2 * PAGE_SIZE, np.uint8)
        start = -self._octets.ctypes.data % PAGE_SIZE
        table = self._octets[start : start + PAGE_SIZE]
        for selector, (rights, limit) in _SEGMENTS.items():
            table[selector : selector + 8].view(np.uint64)[0] = _descriptor(rights, limit)
        engine.map_memory(TABLE_HPA, table.ctypes.data, PAGE_SIZE)
        engine.set_tables(TABLE, _LIMIT)


def _descriptor(rights: int, limit: int) -> int:
    """Return the eight bytes of a segment descriptor of base 0 (SDM 3A §3.4.5)."""
    return limit & 0xFFFF | (rights & 0xF0FF | (limit >> 16) << 8) << 40
