"""The header by which a loader knows a multiboot kernel (Multiboot Specification 0.6.96 §3.1).

In the first 8 KiB of the file, at a multiple of 4: a magic number, flags, a checksum; with flag 16 the addresses of a
kernel whose file is no ELF: the a.out kludge. Version 1 alone; the other has another magic number.
"""

import struct
from dataclasses import dataclass

from quire.arch import LOW32
from quire.guest.boot.image import refusal

__all__ = ["Addresses", "Header", "find_header"]

_MAGIC = 0x1BADB002
_SEARCHED = 8192
_WORDS = struct.Struct("<III")
_ADDRESSES = struct.Struct("<5I")
_HAS_ADDRESSES = 1 << 16
_VIDEO = 1 << 2
#: Requirements that are met: modules at pages (0), memory in the information (1).
_KNOWN, _REQUIRED = 0x3, 0xFFFF


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a kernel goes that says so itself, as its header has it: physical addresses; ends of 0 are open."""

    header: int
    load: int
    load_end: int
    bss_end: int
    entry: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header at file `offset`; `addresses` of a kernel with the a.out kludge."""

    offset: int
    addresses: Addresses | None


def find_header(data: bytes, path: str) -> Header | None:
    """Return the header in `data`, called `path` in messages; None if it has none.

    Raises LaunchError for one that requires what there is not, or is cut off.
    """
    magic = _MAGIC.to_bytes(4, "little")
    searched = data[:_SEARCHED]
    at = searched.find(magic)
    while at != -1:
        if at % 4 == 0 and at + _WORDS.size <= len(searched):
            words = _WORDS.unpack_from(data, at)
            if not sum(words) & LOW32:
                return _checked(data, path, at, words[1])
        at = searched.find(magic, at + 1)
    return None


def _checked(data: bytes, path: str, at: int, flags: int) -> Header:
    unmet = flags & _REQUIRED & ~_KNOWN
    if unmet:
        why = "a video mode, and there is no frame buffer" if unmet & _VIDEO else "what Quire does not have"
        raise refusal(
            f"{path}: its multiboot header has flags {flags:#x} and so requires {why}: "
            f"give a kernel that requires none of {_REQUIRED & ~_KNOWN:#x}"
        )
    if not flags & _HAS_ADDRESSES:
        return Header(at, None)
    if at + _WORDS.size + _ADDRESSES.size > len(data):
        raise refusal(
            f"{path} ends at {len(data):#x}, within its multiboot header at {at:#x}: give a complete kernel"
        )
    return Header(at, Addresses(*_ADDRESSES.unpack_from(data, at + _WORDS.size)))
