"""ELF files as loaders of kernels read them: what goes where in physical memory, and where the kernel begins.

32-bit and 64-bit files of x86 (System V ABI, chapters 4 and 5). Only PT_LOAD counts; what is not in the file is zero,
as memory is before a guest starts. Each number is checked: FormatError would be nobody's, all are LaunchError.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise

from quire.guest.boot.image import refusal

__all__ = ["ElfKernel", "Piece", "read_elf_kernel"]

_MAGIC = b"\x7fELF"
_CLASS, _DATA, _LITTLE = 4, 5, 1
_MACHINES = {1: (3, "i386"), 2: (62, "x86-64")}  # by class: e_machine
_PT_LOAD = 1
_EXECUTABLE = 2  # e_type: at fixed addresses
_MOST = 64  # program headers
#: By class: the header from e_type on, a program header, and where in it are offset, vaddr, paddr, filesz, memsz.
_HEADERS = {1: "<HHIIIIIHHH", 2: "<HHIQQQIHHH"}
_PROGRAM_HEADERS = {1: ("<8I", (1, 2, 3, 4, 5)), 2: ("<IIQQQQQQ", (2, 3, 4, 5, 6))}
_IDENTITY = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """`data` goes to guest-physical `start`; up to `end` is zero. `virtual` is where the file wants it mapped."""

    start: int
    end: int
    data: memoryview
    virtual: int


@dataclass(frozen=True, slots=True)
class ElfKernel:
    """A checked file: `wide` for 64-bit ELF, the physical address `entry`, its pieces from low to high."""

    wide: bool
    entry: int
    pieces: tuple[Piece, ...]

    @property
    def end(self) -> int:
        """Where its memory ends."""
        return self.pieces[-1].end


def read_elf_kernel(data: bytes, path: str) -> ElfKernel | None:
    """Return the kernel in `data`, called `path` in messages; None for what is no ELF file. Raises LaunchError."""
    if data[:4] != _MAGIC:
        return None
    kind = data[_CLASS] if len(data) > _CLASS else 0
    form = _HEADERS.get(kind)
    if form is None or len(data) < _IDENTITY + struct.calcsize(form) or data[_DATA] != _LITTLE:
        raise refusal(
            f"{path} is an ELF file of {len(data)} bytes and class {kind}: give one of x86, complete"
        )
    words = struct.unpack_from(form, data, _IDENTITY)
    elf_type, machine, _, entry, table, _, _, _, size, count = words
    wanted, name = _MACHINES[kind]
    if machine != wanted or elf_type != _EXECUTABLE:
        raise refusal(
            f"{path} is an ELF file of type {elf_type} for machine {machine}: "
            f"give a kernel of type {_EXECUTABLE} for {wanted}, {name}"
        )
    layout, places = _PROGRAM_HEADERS[kind]
    if size != struct.calcsize(layout) or not 1 <= count <= _MOST or table + size * count > len(data):
        raise refusal(
            f"{path} has {count} program headers of {size} bytes at {table:#x} of {len(data):#x}: "
            f"1 to {_MOST} of {struct.calcsize(layout)} within the file are possible"
        )
    found = []
    for number in range(count):
        header = struct.unpack_from(layout, data, table + number * size)
        if header[0] == _PT_LOAD and header[places[4]]:
            found.append(_piece(data, path, number, tuple(header[place] for place in places)))
    if not found:
        raise refusal(f"{path} has nothing to load: give an ELF kernel with PT_LOAD segments")
    pieces = tuple(sorted(found, key=lambda piece: piece.start))
    for below, above in pairwise(pieces):
        if above.start < below.end:
            raise refusal(
                f"{path} has a segment at {above.start:#x} within the one from {below.start:#x} to {below.end:#x}: "
                "give a kernel whose segments lie apart"
            )
    return ElfKernel(kind == 2, _entry(entry, pieces, path), pieces)


def _piece(data: bytes, path: str, number: int, words: tuple[int, ...]) -> Piece:
    offset, virtual, start, in_file, in_memory = words
    if in_file > in_memory or offset + in_file > len(data):
        raise refusal(
            f"{path}: segment {number} has {in_file:#x} bytes at {offset:#x} of a file of {len(data):#x}, and "
            f"{in_memory:#x} in memory: give a complete kernel"
        )
    return Piece(start, start + in_memory, memoryview(data)[offset : offset + in_file], virtual)


def _entry(entry: int, pieces: tuple[Piece, ...], path: str) -> int:
    """Return the physical address of `entry`, which is one, or is a virtual one of a segment."""
    if any(piece.start <= entry < piece.end for piece in pieces):
        return entry
    for piece in pieces:
        if piece.virtual <= entry < piece.virtual + piece.end - piece.start:
            return entry - piece.virtual + piece.start
    raise refusal(
        f"{path} begins at {entry:#x}, which is in none of its segments: link it with its entry within"
    )
