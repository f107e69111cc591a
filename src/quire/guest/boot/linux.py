"""Linux kernels: a bzImage is laid out as its boot protocol says, and entered in 64-bit mode.

The protocol is Documentation/arch/x86/boot.rst of Linux: the setup header within the image, the zero page that says
where everything is, the 64-bit entry 0x200 bytes into the kernel proper, which unpacks itself.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from quire.errors import CANNOT_SET_UP
from quire.guest.boot.long_mode import CODE_64, FLAT_DATA
from quire.guest.load.launch import LaunchError

__all__ = ["DESCRIPTORS", "STACK", "LinuxImage", "LinuxStart"]

_KERNEL_SIZE, _PARAGRAPH = 0x1F4, 16
_SETUP_SECTS, _BOOT_FLAG, _JUMP, _MAGIC, _VERSION = 0x1F1, 0x1FE, 0x201, 0x202, 0x206
_LOADER, _LOAD_FLAGS, _RAMDISK, _RAMDISK_SIZE = 0x210, 0x211, 0x218, 0x21C
_COMMAND, _INITRD_MOST, _RELOCATABLE, _XLOAD = 0x228, 0x22C, 0x234, 0x236
_COMMAND_SIZE, _PREFERRED, _INIT_SIZE = 0x238, 0x258, 0x260
_E820_COUNT, _E820, _E820_ENTRY, _RSDP = 0x1E8, 0x2D0, "<QQI", 0x70
_OLDEST = 0x20C  # the first protocol whose header says whether there is a 64-bit entry
_KERNEL_64 = 1 << 0  # of xloadflags
_ENTRY = 0x200
_UNKNOWN_LOADER, _LOADED_HIGH = 0xFF, 1 << 0
_RAM, _RESERVED = 1, 2
_SECTOR = 512
_PAGE = 4096
#: Flat code and data where the protocol wants them: selectors 0x10 and 0x18.
DESCRIPTORS = (0, 0, CODE_64, FLAT_DATA)
#: Where the stack of the start ends.
STACK = 0xF000
#: Where the zero page and the command line go; the page tables and the stack of the start are below.
ZERO_PAGE, COMMAND_LINE = 0x10000, 0x20000
#: What is not ordinary memory below 1 MiB: from the extended BIOS data area to the end of the BIOS.
_LOW_END, _BIOS, _HIGH = 0x9FC00, 0xE0000, 0x100000


@dataclass(frozen=True, slots=True)
class LinuxStart:
    """Where the kernel is entered, and what RSI holds then."""

    entry: int
    zero_page: int


class LinuxImage:
    """The bzImage `data`, called `path` in messages. Raises LaunchError for what is none, or has no 64-bit entry."""

    def __init__(self, data: bytes, path: str) -> None:
        self._data, self._path = data, path
        if (
            len(data) < _INIT_SIZE + 4
            or self._field("<H", _BOOT_FLAG) != 0xAA55
            or data[_MAGIC : _MAGIC + 4] != b"HdrS"
        ):
            raise LaunchError(
                CANNOT_SET_UP, f"{path} is no Linux kernel: give a bzImage, such as /boot/vmlinuz-VERSION"
            )
        version = self._field("<H", _VERSION)
        if version < _OLDEST or not self._field("<H", _XLOAD) & _KERNEL_64:
            raise LaunchError(
                CANNOT_SET_UP,
                f"{path} has boot protocol {version >> 8}.{version & 0xFF:02} and no 64-bit entry: "
                "give a 64-bit kernel of Linux 3.8 or newer",
            )

    def place(
        self,
        write: Callable[[int, bytes], None],
        memory: int,
        command_line: str,
        initrd: bytes,
        rsdp: int,
    ) -> LinuxStart:
        """Write kernel, initrd, command line and zero page into `memory` bytes. Raises LaunchError."""
        kernel = self._kernel()
        start, end = self._where(len(kernel), memory)
        text = command_line.encode(errors="surrogateescape")
        most = self._field("<I", _COMMAND_SIZE)
        if b"\0" in text:
            raise LaunchError(
                CANNOT_SET_UP, f"The command line {command_line!r} has a NUL, which would end it: append none"
            )
        if len(text) > most:
            raise LaunchError(
                CANNOT_SET_UP,
                f"The command line has {len(text)} bytes, {self._path} takes {most}: append less",
            )
        at = self._initrd_at(len(initrd), memory, end)
        write(start, kernel)
        write(COMMAND_LINE, text + b"\0")
        if initrd:
            write(at, initrd)
        write(ZERO_PAGE, self._zero_page(memory, at, len(initrd), rsdp))
        return LinuxStart(start + _ENTRY, ZERO_PAGE)

    def _field(self, form: str, at: int) -> int:
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def _kernel(self) -> bytes:
        """Return the kernel proper, behind the setup: at least what the header says."""
        setup = ((self._data[_SETUP_SECTS] or 4) + 1) * _SECTOR
        need = setup + self._field("<I", _KERNEL_SIZE) * _PARAGRAPH
        if len(self._data) < max(need, setup + 1):
            raise LaunchError(
                CANNOT_SET_UP,
                f"{self._path} is cut off: it has {len(self._data)} bytes of {need}: copy or unpack it again",
            )
        return self._data[setup:]

    def _where(self, size: int, memory: int) -> tuple[int, int]:
        """Return where the kernel goes, and where the memory ends that it needs to unpack itself."""
        start = self._field("<Q", _PREFERRED)
        need = max(self._field("<I", _INIT_SIZE), size)
        if start + need > memory:
            least = -(-(start + need) >> 20)
            raise LaunchError(
                CANNOT_SET_UP,
                f"{self._path} needs {least} MiB of memory to start: give --memory {least}M or more",
            )
        return start, start + need

    def _initrd_at(self, size: int, memory: int, kernel_end: int) -> int:
        """Return where the initrd goes: as high as it may."""
        if not size:
            return 0
        top = min(memory, self._field("<I", _INITRD_MOST) + 1)
        at = (top - size) & -_PAGE
        if at < kernel_end:
            raise LaunchError(
                CANNOT_SET_UP,
                f"An initrd of {size >> 20} MiB does not fit behind the kernel, which ends at {kernel_end >> 20} MiB: "
                "give more --memory",
            )
        return at

    def _zero_page(self, memory: int, initrd: int, initrd_size: int, rsdp: int) -> bytes:
        data, page = self._data, bytearray(_PAGE)
        end = _MAGIC + data[_JUMP]
        page[_SETUP_SECTS:end] = data[_SETUP_SECTS:end]
        page[_LOADER] = _UNKNOWN_LOADER
        page[_LOAD_FLAGS] |= _LOADED_HIGH
        struct.pack_into("<I", page, _COMMAND, COMMAND_LINE)
        struct.pack_into("<II", page, _RAMDISK, initrd, initrd_size)
        struct.pack_into("<Q", page, _RSDP, rsdp)
        ranges = (
            (0, _LOW_END, _RAM),
            (_LOW_END, 0xA0000 - _LOW_END, _RESERVED),
            (_BIOS, _HIGH - _BIOS, _RESERVED),
            (_HIGH, memory - _HIGH, _RAM),
        )
        page[_E820_COUNT] = len(ranges)
        for number, one in enumerate(ranges):
            struct.pack_into(_E820_ENTRY, page, _E820 + number * struct.calcsize(_E820_ENTRY), *one)
        return bytes(page)
