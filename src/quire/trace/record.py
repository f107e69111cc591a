"""One recorded access as a word."""

import numpy as np
import numpy.typing as npt

from quire.arch import Layout, Side, bits
from quire.tlb.layout import SIDE_NUMBERS

__all__ = ["RECORD", "records"]

RECORD = Layout(
    "TLB_RECORD",
    64,
    "SDM 3A §4.10.2",
    (
        bits(0, 56, "gva", "linear address, without its sign"),
        bits(57, 59, "unused", "0"),
        bits(60, 61, "side", "0 fetch, 1 load, 2 store"),
        bits(62, 63, "free", "0"),
    ),
)


def records(addresses: npt.NDArray[np.uint64], side: Side) -> npt.NDArray[np.uint64]:
    """Return the records of accesses of one `side` to `addresses`."""
    number = np.uint64(SIDE_NUMBERS[side])
    gva = addresses & np.uint64(RECORD.mask("gva"))
    return gva | number << np.uint64(RECORD.shift("side"))
