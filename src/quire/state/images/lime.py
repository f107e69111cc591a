"""LiME images: ranges of physical memory, each behind a header of 32 bytes."""

import struct
from collections.abc import Iterator

from quire.errors import FormatError

__all__ = ["LIME_MAGIC", "lime_ranges"]

LIME_MAGIC = b"EMiL"  #: 0x4C694D45, little-endian
_HEADER = struct.Struct("<4sIQQ8x")  # magic, version, first address, last address (included)
_VERSION = 1


def lime_ranges(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield first address and bytes of each range. Raises FormatError, with the offset in the file."""
    offset = 0
    while offset < len(content):
        if offset + _HEADER.size > len(content):
            raise FormatError(f"LiME header at offset {offset:#x} is cut: the file ends at {len(content):#x}")
        magic, version, start, last = _HEADER.unpack_from(content, offset)
        if magic != LIME_MAGIC:
            raise FormatError(f"no LiME header at offset {offset:#x}: found 0x{magic.hex()}, not 0x454d694c")
        if version != _VERSION:
            raise FormatError(
                f"LiME header at offset {offset:#x} has version {version}: Quire reads {_VERSION}"
            )
        if last < start:
            raise FormatError(f"LiME range at offset {offset:#x} ends at {last:#x} before {start:#x}")
        offset += _HEADER.size
        end = offset + last + 1 - start
        if end > len(content):
            raise FormatError(
                f"LiME range {start:#x} to {last:#x} at offset {offset:#x} is cut: "
                f"it needs {end:#x} bytes of file, which ends at {len(content):#x}"
            )
        yield start, content[offset:end]
        offset = end
