"""Linux kernels as they are installed: a bzImage is laid out as its boot protocol says, and entered in 64-bit mode.

The protocol is Documentation/arch/x86/boot.rst of Linux: the setup header within the image, the zero page that says
where everything is, the 64-bit entry 0x200 bytes into the kernel proper, which unpacks itself.
"""

import struct

from quire.guest.boot.image import HIGH, Given, Start, Write, refusal
from quire.guest.boot.zero_page import SETUP, Limits, place_zero_page

__all__ = ["LinuxImage"]

_KERNEL_SIZE, _PARAGRAPH = 0x1F4, 16
_BOOT_FLAG, _JUMP, _MAGIC, _VERSION = 0x1FE, 0x201, 0x202, 0x206
_INITRD_MOST, _XLOAD, _COMMAND_SIZE, _PREFERRED, _INIT_SIZE = 0x22C, 0x236, 0x238, 0x258, 0x260
_OLDEST = 0x20C  # the first protocol whose header says whether there is a 64-bit entry
_KERNEL_64 = 1 << 0  # of xloadflags
_ENTRY = 0x200
_SECTOR = 512


class LinuxImage:
    """The bzImage `data`, called `path` in messages. Raises LaunchError for one that has no 64-bit entry."""

    usual = "console=ttyS0"

    def __init__(self, data: bytes, path: str) -> None:
        self._data, self._path = data, path
        version = self._field("<H", _VERSION)
        if version < _OLDEST or not self._field("<H", _XLOAD) & _KERNEL_64:
            raise refusal(
                f"{path} has boot protocol {version >> 8}.{version & 0xFF:02} and no 64-bit entry: "
                "give a 64-bit kernel of Linux 3.8 or newer"
            )

    @staticmethod
    def is_one(data: bytes) -> bool:
        """Whether `data` has a setup header."""
        long_enough = len(data) >= _INIT_SIZE + 4
        return (
            long_enough
            and data[_BOOT_FLAG : _BOOT_FLAG + 2] == b"\x55\xaa"
            and data[_MAGIC:_VERSION] == b"HdrS"
        )

    def place(self, write: Write, given: Given) -> Start:
        """Write kernel, initrd, command line and zero page. Raises LaunchError."""
        data, kernel = self._data, self._kernel()
        start, end = self._where(len(kernel), given.memory)
        limits = Limits(
            self._path, self._field("<I", _COMMAND_SIZE), self._field("<I", _INITRD_MOST), kernel_end=end
        )
        header = data[SETUP : _MAGIC + data[_JUMP]]
        begin = place_zero_page(write, given, header, limits, start + _ENTRY)
        write(start, kernel)
        return begin

    def _field(self, form: str, at: int) -> int:
        value: int = struct.unpack_from(form, self._data, at)[0]
        return value

    def _kernel(self) -> bytes:
        """Return the kernel proper, behind the setup: at least what the header says."""
        setup = ((self._data[SETUP] or 4) + 1) * _SECTOR
        need = setup + self._field("<I", _KERNEL_SIZE) * _PARAGRAPH
        if len(self._data) < max(need, setup + 1):
            raise refusal(
                f"{self._path} is cut off: it has {len(self._data)} bytes of {need}: copy or unpack it again"
            )
        return self._data[setup:]

    def _where(self, size: int, memory: int) -> tuple[int, int]:
        """Return where the kernel goes, and where the memory ends that it needs to unpack itself."""
        start = self._field("<Q", _PREFERRED)
        need = max(self._field("<I", _INIT_SIZE), size)
        if start < HIGH:
            raise refusal(f"{self._path} wants to be at {start:#x}: give a kernel at {HIGH:#x} or above")
        if start + need > memory:
            least = -(-(start + need) >> 20)
            raise refusal(
                f"{self._path} needs {least} MiB of memory to start: give --memory {least}M or more"
            )
        return start, start + need
