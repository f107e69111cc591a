"""Linux kernels as the linker made them: a 64-bit ELF file, placed by physical address, entered in 64-bit mode.

The 64-bit boot protocol of Documentation/arch/x86/boot.rst: RSI has the zero page, memory is mapped at its own
addresses, code and data segments are 0x10 and 0x18. There is no setup header to take over, so that the zero page has
one of the newest protocol with what a loader says: nothing is unpacked, and the kernel does not move itself.
"""

import struct

from quire.guest.boot.elf_kernel import ElfKernel
from quire.guest.boot.image import HIGH, Given, Start, Write, refusal
from quire.guest.boot.zero_page import SETUP, Limits, place_zero_page

__all__ = ["VmlinuxImage"]

_BOOT_FLAG, _MAGIC, _VERSION, _ALIGNMENT, _COMMAND_SIZE = 0x1FE, 0x202, 0x206, 0x230, 0x238
_PROTOCOL = 0x20F
_HEADER_END = 0x26C
_PAGE = 2 << 20  # of the tables on which it is entered
#: COMMAND_LINE_SIZE of x86 without the byte that ends it, and where an initrd may end (no kernel says less).
_LONGEST, _INITRD_MOST = 2047, 0x7FFFFFFF


class VmlinuxImage:
    """The ELF file `kernel`, called `path` in messages. Raises LaunchError for one below 1 MiB."""

    usual = "console=ttyS0"

    def __init__(self, kernel: ElfKernel, path: str) -> None:
        self._kernel, self._path = kernel, path
        first = kernel.pieces[0].start
        if first < HIGH:
            raise refusal(
                f"{path} is an ELF file that is loaded at {first:#x}, below {HIGH:#x}: give a vmlinux, a kernel"
            )

    def place(self, write: Write, given: Given) -> Start:
        """Write kernel, initrd, command line and zero page. Raises LaunchError."""
        end = self._kernel.end
        if end > given.memory:
            least = -(-end >> 20)
            raise refusal(
                f"{self._path} needs {least} MiB of memory to start: give --memory {least}M or more"
            )
        limits = Limits(self._path, _LONGEST, _INITRD_MOST, kernel_end=end)
        begin = place_zero_page(write, given, _header(), limits, self._kernel.entry)
        for piece in self._kernel.pieces:
            write(piece.start, bytes(piece.data))
        return begin


def _header() -> bytes:
    """Return what the setup header of such a kernel would be."""
    header = bytearray(_HEADER_END - SETUP)
    for form, at, value in (
        ("<H", _BOOT_FLAG, 0xAA55),
        ("<4s", _MAGIC, b"HdrS"),
        ("<H", _VERSION, _PROTOCOL),
        ("<I", _ALIGNMENT, _PAGE),
        ("<I", _COMMAND_SIZE, _LONGEST),
    ):
        struct.pack_into(form, header, at - SETUP, value)
    return bytes(header)
