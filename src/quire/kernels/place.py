"""Stored machine code becomes functions of this process, in memory of its own, called as built-in functions are.

Memory is written, then executable, never both.
"""

import ctypes
import mmap
import struct
from functools import cache
from typing import Any

import numpy as np

from quire.kernels.image import Image
from quire.kernels.layout import ARRAY_TYPE

__all__ = ["PlaceError", "builtin_of", "call_into", "place"]

#: Stands for what is never called.
_TRAP = bytes.fromhex("0f0b")
_PAGE = mmap.PAGESIZE
_WORD = struct.Struct("<Q")
_FAST_CALL = 0x80  # METH_FASTCALL
#: What code was laid out in: it stays for good.
_kept: list[Any] = []
#: What code calls.
_libraries: list[ctypes.CDLL] = [ctypes.pythonapi]


class PlaceError(Exception):
    """Stored code cannot be loaded here."""


class _Method(ctypes.Structure):
    """A PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


def place(image: Image) -> dict[str, int]:
    """Return where each function of `image` is, now that it is laid out."""
    size = (len(image.code) + len(_TRAP) + _PAGE - 1) & -_PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, size, flags, mmap.PROT_READ | mmap.PROT_WRITE)
    memory[: len(image.code)] = image.code
    memory[len(image.code) : len(image.code) + len(_TRAP)] = _TRAP
    words = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(words)
    _add(memory, image.inner, start)
    for symbol, places in image.symbols.items():
        _add(memory, places, _address_of(symbol) if symbol else start + len(image.code))
    if _libc().mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC):
        raise PlaceError(f"the kernel gives no executable memory: {ctypes.get_errno()}")
    _kept.append(words)
    return {name: start + offset for name, offset in image.entries.items()}


def _add(memory: mmap.mmap, places: list[int], value: int) -> None:
    for at in places:
        word = _WORD.unpack_from(memory, at)[0] + value
        _WORD.pack_into(memory, at, word % (1 << 64))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call_into(library: ctypes.CDLL) -> None:
    """Let stored code that is placed from now on call the functions of `library`."""
    _libraries.append(library)


@cache
def _address_of(symbol: str) -> int:
    if symbol == ARRAY_TYPE:
        return id(np.ndarray)
    for library in (*_libraries, _libc()):
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(library, symbol))
        except ValueError:
            continue
    raise PlaceError(f"no library has {symbol}, which stored code calls")


def builtin_of(name: str, address: int) -> Any:
    """Return the function at `address` as a built-in function of Python."""
    method = _Method(name.encode(), address, _FAST_CALL, None)
    _kept.append(method)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return make(ctypes.addressof(method), None, None)
