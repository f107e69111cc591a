"""ELF cores: segments by physical address, and the registers in QEMU's notes.

Reads what QEMU's dump-guest-memory and :func:`write_core` write: 64-bit little-endian ET_CORE files of x86 machines.
Headers are read with pyelftools' structures; the table of program headers, which may have millions, as one array.
Fails with FormatError.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.structs import ELFStructs

from quire.errors import FormatError
from quire.state.images.core_writer import EPT_NOTE
from quire.state.images.processor import ProcessorState, assumed_efer
from quire.state.images.qemu_note import decode_processor

__all__ = ["ELF_MAGIC", "core_eptp", "core_processors", "core_ranges"]

ELF_MAGIC = b"\x7fELF"
_CLASS_64_LITTLE = b"\x02\x01"
_PT_LOAD, _PT_NOTE = 1, 4
_PN_XNUM = 0xFFFF  # the real count is in sh_info of section 0
_SEGMENT = np.dtype(
    [("type", "<u4"), ("flags", "<u4")]
    + [(name, "<u8") for name in ("offset", "vaddr", "paddr", "filesz", "memsz", "align")]
)
_HEADER, _SECTION, _NOTE = 64, 64, 12


def core_ranges(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield physical address and bytes of each PT_LOAD segment; what a segment has not in the file is a hole."""
    for segment in _segments(content)[1]:
        if segment["type"] == _PT_LOAD:
            start, size = int(segment["offset"]), int(segment["filesz"])
            yield int(segment["paddr"]), _part(content, start, size, "segment")


def core_processors(content: memoryview) -> list[ProcessorState]:
    """Return the registers of each vCPU that a ``QEMU`` note describes, in the file's order."""
    header, _ = _segments(content)
    long_mode = header["e_machine"] == "EM_X86_64"
    found = []
    for description in _notes_of(content, b"QEMU"):
        state = decode_processor(description)
        read = state.registers.get
        efer = assumed_efer(read("cr0", 0), read("cr4", 0), long_mode=long_mode)
        found.append(ProcessorState(state.registers, state.segments, efer))
    return found


def core_eptp(content: memoryview) -> int | None:
    """Return the EPT pointer of a core that Quire wrote with both dimensions; None for any other."""
    found = [int.from_bytes(description, "little") for description in _notes_of(content, EPT_NOTE)]
    if found and found[0] >> 64:
        raise FormatError(
            f"the note of the EPT pointer has {found[0].bit_length()} bits: the core was changed"
        )
    return found[0] if found else None


def _notes_of(content: memoryview, wanted: bytes) -> Iterator[bytes]:
    """Yield the content of each note of that name."""
    for segment in _segments(content)[1]:
        if segment["type"] == _PT_NOTE:
            notes = _part(content, int(segment["offset"]), int(segment["filesz"]), "note")
            yield from (description for name, description in _notes(bytes(notes)) if name == wanted)


def _segments(content: memoryview) -> tuple[Any, Any]:
    """Return the file header and the array of program headers."""
    if bytes(content[4:6]) != _CLASS_64_LITTLE:
        raise FormatError("32-bit or big-endian ELF: Quire reads 64-bit little-endian cores, as QEMU writes")
    structs = ELFStructs(little_endian=True, elfclass=64)
    structs.create_basic_structs()
    structs.create_advanced_structs()
    if len(content) < _HEADER:
        raise FormatError(f"ELF header is cut: the file has {len(content):#x} bytes, the header {_HEADER:#x}")
    try:
        header = struct_parse(structs.Elf_Ehdr, io.BytesIO(bytes(content[:_HEADER])), 0)
    except ELFError as error:
        raise FormatError(f"ELF header cannot be read: {error}") from None
    if header["e_type"] != "ET_CORE" or header["e_machine"] not in ("EM_X86_64", "EM_386"):
        raise FormatError(
            f"ELF file is {header['e_type']} for {header['e_machine']}: "
            "give a core of an x86 machine (QEMU's dump-guest-memory, quire run --save-image)"
        )
    count = header["e_phnum"]
    if count == _PN_XNUM:
        section = _part(content, header["e_shoff"], _SECTION, "section header")
        count = int.from_bytes(section[44:48], "little")  # sh_info
    if count and header["e_phentsize"] != _SEGMENT.itemsize:
        raise FormatError(
            f"program headers have {header['e_phentsize']:#x} bytes each: 64-bit ones have {_SEGMENT.itemsize:#x}"
        )
    table = _part(content, header["e_phoff"], count * _SEGMENT.itemsize, "program headers")
    return header, np.frombuffer(table, _SEGMENT)


def _part(content: memoryview, offset: int, size: int, what: str) -> memoryview:
    if offset + size > len(content):
        raise FormatError(
            f"ELF core is cut: {what} at offset {offset:#x} ends at {offset + size:#x}, "
            f"the file at {len(content):#x}"
        )
    return content[offset : offset + size]


def _notes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and description of each note; both are padded to 4 bytes (System V gABI, ch. 5)."""
    at = 0
    while at + _NOTE <= len(content):
        name_size = int.from_bytes(content[at : at + 4], "little")
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        name_at = at + _NOTE
        description_at = name_at + (name_size + 3 & ~3)
        if description_at + size > len(content):
            raise FormatError(
                f"ELF note at {at:#x} of its segment is cut: it ends at {description_at + size:#x}, "
                f"the segment at {len(content):#x}"
            )
        yield content[name_at : name_at + name_size].rstrip(b"\0"), content[description_at:][:size]
        at = description_at + (size + 3 & ~3)
