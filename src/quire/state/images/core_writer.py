"""Writes an ELF core of physical memory as QEMU's dump-guest-memory does: what Quire, gdb, drgn and crash read.

Each range of memory is one PT_LOAD segment, whole in the file; pages of zeros are holes of the file, so that a large
and mostly empty memory costs little. OSError when the file cannot be written.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from quire.state.images.processor import ProcessorState
from quire.state.images.qemu_note import encode_processor, encode_status

__all__ = ["EPT_NOTE", "MemoryRange", "write_core"]

EPT_NOTE = b"QUIRE EPTP"  #: name of the note whose content is an EPT pointer
_ET_CORE, _EM_X86_64 = 4, 62
_PT_LOAD, _PT_NOTE, _NT_PRSTATUS = 1, 4, 1
_PN_XNUM = 0xFFFF
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PAGE = 4096
_RWX = 7
_CHUNK = 512 * _PAGE


def _never(offset: int, length: int) -> bool:
    del offset, length
    return False


@dataclass(frozen=True, slots=True)
class MemoryRange:
    """Bytes at a physical address. `is_hole` (offset, length) says of zeros that they need not be looked at."""

    address: int
    content: memoryview
    is_hole: Callable[[int, int], bool] = _never


def write_core(
    file: BinaryIO, ranges: Sequence[MemoryRange], processors: Iterable[ProcessorState], *, eptp: int = 0
) -> None:
    """Write `ranges` and the registers of `processors` to `file`, which must be empty and seekable.

    An `eptp` other than 0 goes into a note of Quire's own: the ranges are then host-physical memory.
    """
    notes = b"".join(
        _note(b"CORE", _NT_PRSTATUS, encode_status(state, n)) + _note(b"QEMU", 0, encode_processor(state))
        for n, state in enumerate(processors)
    )
    if eptp:
        notes += _note(EPT_NOTE, 0, eptp.to_bytes(8, "little"))
    count = 1 + len(ranges)
    large = count >= _PN_XNUM
    sections_at = _HEADER.size
    segments_at = sections_at + (_SECTION.size if large else 0)
    notes_at = segments_at + count * _SEGMENT.size
    file.write(_header(count, segments_at, sections_at if large else 0))
    if large:
        file.write(_SECTION.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0))
    file.write(_SEGMENT.pack(_PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 4))
    at = _page_up(notes_at + len(notes))
    places = []
    for one in ranges:
        size = len(one.content)
        file.write(_SEGMENT.pack(_PT_LOAD, _RWX, at, one.address, one.address, size, size, _PAGE))
        places.append(at)
        at = _page_up(at + size)
    file.write(notes)
    for place, one in zip(places, ranges, strict=True):
        _write_sparse(file, place, one)
    file.truncate(places[-1] + len(ranges[-1].content) if ranges else None)


def _header(count: int, segments_at: int, sections_at: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return _HEADER.pack(
        ident,
        _ET_CORE,
        _EM_X86_64,
        1,
        0,
        segments_at,
        sections_at,
        0,
        _HEADER.size,
        _SEGMENT.size,
        min(count, _PN_XNUM),
        _SECTION.size if sections_at else 0,
        1 if sections_at else 0,
        0,
    )


def _note(name: bytes, kind: int, description: bytes) -> bytes:
    padded = (name + b"\0").ljust(len(name) + 4 & ~3, b"\0")
    content = description.ljust(len(description) + 3 & ~3, b"\0")
    return struct.pack("<III", len(name) + 1, len(description), kind) + padded + content


def _write_sparse(file: BinaryIO, place: int, one: MemoryRange) -> None:
    """Write a range at offset `place`, leaving out pages that are zero."""
    empty = bytes(_PAGE)
    for start in range(0, len(one.content), _CHUNK):
        chunk = one.content[start : start + _CHUNK]
        if one.is_hole(start, len(chunk)):
            continue
        for offset in range(0, len(chunk), _PAGE):
            page = chunk[offset : offset + _PAGE].tobytes()
            if page != empty[: len(page)]:
                file.seek(place + start + offset)
                file.write(page)


def _page_up(offset: int) -> int:
    return offset + _PAGE - 1 & ~(_PAGE - 1)
