"""The engine's library in this process's memory: where its tables hold the address of a function, and their contents.

Read from the dynamic section that the loader itself uses (System V ABI, "Dynamic Linking"), not from the file.
"""

import ctypes
import mmap
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ABSOLUTE", "GLOBAL", "JUMP", "Library", "Slot"]

_PT_DYNAMIC, _PT_GNU_RELRO = 2, 0x6474E552
_DT_PLTRELSZ, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 6, 7, 8, 23
#: Relocations that hold the address of a symbol: R_X86_64_64, GLOB_DAT, JUMP_SLOT.
ABSOLUTE, GLOBAL, JUMP = 1, 6, 7
_SYMBOL = np.dtype([("name", "<u4"), ("info", "<u2"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")])
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_HEADER = np.dtype(
    [
        ("type", "<u4"),
        ("flags", "<u4"),
        ("offset", "<u8"),
        ("address", "<u8"),
        ("physical", "<u8"),
        ("in_file", "<u8"),
        ("in_memory", "<u8"),
        ("alignment", "<u8"),
    ]
)
_PHOFF, _PHNUM = 32, 56  # offsets in the ELF header

_libc = ctypes.CDLL(None, use_errno=True)
_libc.dladdr.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Slot(NamedTuple):
    """A word of the library that holds the address of a function: where, and by which kind of relocation."""

    address: int
    kind: int


class Library:
    """The shared library that `loaded` is, of x86-64 Linux. Raises LookupError for what it does not export."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self._loaded = loaded
        info = (ctypes.c_void_p * 4)()
        anything = self.address("uc_open")
        _libc.dladdr(anything, ctypes.byref(info))
        self._base = info[1] or 0

    def address(self, name: str) -> int:
        """Return the address of the exported function `name`."""
        try:
            return ctypes.cast(getattr(self._loaded, name), ctypes.c_void_p).value or 0
        except AttributeError:
            raise LookupError(f"Unicorn's library does not export {name}") from None

    def code(self, name: str) -> bytes:
        """Return the machine code of `name`."""
        symbol = self._symbols[self._number(name)]
        return ctypes.string_at(self._base + int(symbol["value"]), int(symbol["size"]))

    def slots(self, name: str) -> list[Slot]:
        """Return every word that the loader set to the address of `name`."""
        found = self._relocations[np.flatnonzero(self._users == self._number(name))]
        kept = found[np.isin(found["type"], (ABSOLUTE, GLOBAL, JUMP)) & (found["addend"] == 0)]
        return [Slot(self._base + int(one["offset"]), int(one["type"])) for one in kept]

    def write(self, slots: list[Slot], address: int) -> None:
        """Let `slots` hold `address`; those that the loader made read-only are so again behind it."""
        for slot in slots:
            sealed = self._sealed[0] <= slot.address < self._sealed[1]
            page = slot.address & -mmap.PAGESIZE
            if sealed:
                _protect(page, mmap.PROT_READ | mmap.PROT_WRITE)
            ctypes.c_uint64.from_address(slot.address).value = address
            if sealed:
                _protect(page, mmap.PROT_READ)

    def _number(self, name: str) -> int:
        found = self._numbers.get(self.address(name) - self._base)
        if found is None:
            raise LookupError(f"Unicorn's library calls {name} through no table")
        return found

    @cached_property
    def _headers(self) -> npt.NDArray[np.void]:
        begin = ctypes.c_uint64.from_address(self._base + _PHOFF).value
        number = ctypes.c_uint16.from_address(self._base + _PHNUM).value
        return _array(self._base + begin, number, _HEADER)

    @cached_property
    def _sealed(self) -> tuple[int, int]:
        part = self._headers[self._headers["type"] == _PT_GNU_RELRO][0]
        begin = self._base + int(part["address"])
        return begin & -mmap.PAGESIZE, (begin + int(part["in_memory"])) & -mmap.PAGESIZE

    @cached_property
    def _dynamic(self) -> dict[int, int]:
        part = self._headers[self._headers["type"] == _PT_DYNAMIC][0]
        words = _array(self._base + int(part["address"]), int(part["in_memory"]) // 8, np.dtype("<u8"))
        return dict(zip(words[0::2].tolist(), words[1::2].tolist(), strict=True))

    @cached_property
    def _relocations(self) -> npt.NDArray[np.void]:
        dynamic, size = self._dynamic, _RELOCATION.itemsize
        parts = [
            _array(self._pointed(at), dynamic[length] // size, _RELOCATION)
            for at, length in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ))
        ]
        return np.concatenate(parts)

    @cached_property
    def _users(self) -> npt.NDArray[np.uint32]:
        """The symbol of each relocation."""
        return np.ascontiguousarray(self._relocations["symbol"])

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """The symbol that relocations name, by its value."""
        values = np.ascontiguousarray(self._symbols["value"])
        used = np.flatnonzero(np.bincount(self._users, minlength=values.size))
        return dict(zip(values[used].tolist(), used.tolist(), strict=True))

    @cached_property
    def _symbols(self) -> npt.NDArray[np.void]:
        number = int(self._relocations["symbol"].max()) + 1
        return _array(self._pointed(_DT_SYMTAB), number, _SYMBOL)

    def _pointed(self, tag: int) -> int:
        """Return the address that entry `tag` of the dynamic section has, which some loaders leave an offset."""
        value = self._dynamic[tag]
        return value if value >= self._base else self._base + value


def _array(address: int, number: int, kind: "np.dtype[Any]") -> npt.NDArray[Any]:
    octets = np.ctypeslib.as_array((ctypes.c_uint8 * (number * kind.itemsize)).from_address(address))
    return octets.view(kind)


def _protect(page: int, protection: int) -> None:
    if _libc.mprotect(page, mmap.PAGESIZE, protection):
        raise LookupError("the kernel lets nobody write to the tables of Unicorn's library")
