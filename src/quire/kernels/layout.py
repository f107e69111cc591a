"""Where stored code looks for what it reads of an array, and whether it is there.

The places are those of NumPy's C headers (PyArrayObject_fields, PyArray_Descr), which extensions are compiled with.
"""

import ctypes
from functools import cache

import numpy as np

__all__ = [
    "ARRAY_TYPE",
    "BYTE_ORDER",
    "DATA",
    "DESCRIPTION",
    "DIMENSIONS",
    "FLAGS",
    "OBJECT_TYPE",
    "SHAPE",
    "TYPE_NUMBER",
    "strange_layout",
]

#: The symbol by which code names the array type.
ARRAY_TYPE = "quire_array_type"
OBJECT_TYPE = 8
DATA, DIMENSIONS, SHAPE, DESCRIPTION, FLAGS = 16, 24, 32, 56, 64
#: Of what an array is of.
BYTE_ORDER, TYPE_NUMBER = 26, 28


@cache
def strange_layout() -> str | None:
    """Return what is not where stored code looks for it; None if all is."""
    array = np.zeros(3, np.int64)
    at = id(array)
    kind = _word(at + DESCRIPTION)
    seen = {
        "type": (_word(at + OBJECT_TYPE), id(np.ndarray)),
        "data": (_word(at + DATA), array.ctypes.data),
        "dimensions": (_half(at + DIMENSIONS), 1),
        "dtype": (kind, id(array.dtype)),
        "flags": (_half(at + FLAGS), array.flags.num),
    }
    for name, (found, wanted) in seen.items():
        if found != wanted:
            return name
    if _word(_word(at + SHAPE)) != array.size:
        return "shape"
    order = ctypes.c_char.from_address(kind + BYTE_ORDER).value
    return None if (_half(kind + TYPE_NUMBER), order) == (array.dtype.num, b"=") else "number of the dtype"


def _word(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


def _half(address: int) -> int:
    return ctypes.c_uint32.from_address(address).value
