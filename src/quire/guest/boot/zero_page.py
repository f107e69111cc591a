"""The zero page of Linux, and what it points to: command line, initial RAM disks, memory map.

Fields are those of Documentation/arch/x86/boot.rst and zero-page.rst, by offset. A bzImage brings a setup header, which
goes into the page; for a vmlinux, which has none, the fields that a loader fills in are all there is.
"""

import os
import struct
from dataclasses import dataclass

from quire.guest.boot.image import Given, Start, Write, ranges_of, refusal
from quire.guest.boot.long_mode import CODE_64, FLAT_DATA

__all__ = ["COMMAND_LINE", "DESCRIPTORS", "SETUP", "STACK", "ZERO_PAGE", "Limits", "place_zero_page"]

#: Where the setup header begins, in a bzImage and in the zero page.
SETUP = 0x1F1
_LOADER, _LOAD_FLAGS, _RAMDISK, _COMMAND = 0x210, 0x211, 0x218, 0x228
_E820_COUNT, _E820, _E820_ENTRY, _RSDP = 0x1E8, 0x2D0, "<QQI", 0x70
_UNKNOWN_LOADER, _LOADED_HIGH = 0xFF, 1 << 0
_PAGE, _WORD = 4096, 4
#: Flat code and data where the protocol wants them: selectors 0x10 and 0x18.
DESCRIPTORS = (0, 0, CODE_64, FLAT_DATA)
#: Where the stack of the start ends.
STACK = 0xF000
#: Where the zero page and the command line go; the page tables and the stack of the start are below.
ZERO_PAGE, COMMAND_LINE = 0x10000, 0x20000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the kernel called `path`: bytes of a command line, the last address of an initrd, where its memory ends."""

    path: str
    command_line: int
    initrd_most: int
    kernel_end: int


def place_zero_page(write: Write, given: Given, header: bytes, limits: Limits, entry: int) -> Start:
    """Write initrd, command line and the zero page with `header` at 0x1F1; return the start at `entry`, 64-bit.

    Raises LaunchError for what does not fit.
    """
    text = os.fsencode(given.command_line)
    if len(text) > limits.command_line:
        raise refusal(
            f"The command line has {len(text)} bytes, {limits.path} takes {limits.command_line}: append less"
        )
    initrd = _joined([one.data for one in given.initrds])
    at = _initrd_at(len(initrd), given.memory, limits)
    write(COMMAND_LINE, text + b"\0")
    if initrd:
        write(at, initrd)
    page = bytearray(_PAGE)
    page[SETUP : SETUP + len(header)] = header
    page[_LOADER] = _UNKNOWN_LOADER
    page[_LOAD_FLAGS] |= _LOADED_HIGH
    struct.pack_into("<I", page, _COMMAND, COMMAND_LINE)
    struct.pack_into("<II", page, _RAMDISK, at, len(initrd))
    struct.pack_into("<Q", page, _RSDP, given.rsdp)
    ranges = ranges_of(given.memory)
    page[_E820_COUNT] = len(ranges)
    for number, one in enumerate(ranges):
        struct.pack_into(_E820_ENTRY, page, _E820 + number * struct.calcsize(_E820_ENTRY), *one)
    write(ZERO_PAGE, bytes(page))
    return Start({"rip": entry, "rsi": ZERO_PAGE, "rsp": STACK})


def _joined(parts: list[bytes]) -> bytes:
    """Return initial RAM disks one behind the other: a cpio archive must begin at a multiple of 4 bytes."""
    padded = [part + bytes(-len(part) % _WORD) for part in parts[:-1]]
    return b"".join([*padded, *parts[-1:]])


def _initrd_at(size: int, memory: int, limits: Limits) -> int:
    """Return where the initrd goes: as high as it may."""
    if not size:
        return 0
    top = min(memory, limits.initrd_most + 1)
    at = (top - size) & -_PAGE
    if at < limits.kernel_end:
        raise refusal(
            f"An initrd of {size >> 20} MiB does not fit behind the kernel, which ends at "
            f"{limits.kernel_end >> 20} MiB: give more --memory"
        )
    return at
