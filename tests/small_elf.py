"""The smallest programs that a guest can run: one page of code, without a compiler."""

import struct
from pathlib import Path

__all__ = ["BASE", "small_elf"]

BASE = 0x400000  #: where the page lies; its code begins 120 bytes behind
_PAGE = 0x1000


def small_elf(folder: Path, code: bytes, at_end: bytes = b"") -> Path:
    """Write an ELF of one page that begins with `code` and ends with `at_end`; return its path."""
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, _PAGE, _PAGE, _PAGE)
    path = folder / "hello"
    path.write_bytes((header + load + code).ljust(_PAGE - len(at_end), b"\0") + at_end)
    path.chmod(0o755)
    return path
