"""ELF: what a program file asks of the kernel that loads it.

Reads the file header and the program headers of a 64-bit x86-64 executable or shared object (System V gABI,
ch. 4 and 5) with pyelftools' structures; sections are never looked at, as the kernel does not. Every number
is checked against the file and the address space. Fails with FormatError, whose message says what is wrong
without the file's name; OSError when the file cannot be read.
"""

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.descriptions import describe_e_machine
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.structs import ELFStructs

from quire.errors import FormatError
from quire.guest.mm.linux import ADDRESS_END, MMAP_MIN_ADDR, PAGE_4K, page_down, page_up

__all__ = ["ElfImage", "Segment", "read_elf"]

_HEADER_BYTES = 64
_PHDR_BYTES = 56
#: The kernel refuses program headers of more than one 64 KiB block.
_MAX_PHDRS = 65536 // _PHDR_BYTES
_MAX_INTERPRETER = 4096
_EXECUTE = 1
_NAMES = {
    "EM_386": "i386",
    "EM_AARCH64": "AArch64",
    "EM_ARM": "ARM",
    "EM_PPC64": "PowerPC64",
    "EM_RISCV": "RISC-V",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One PT_LOAD: `filesz` bytes at file `offset` go to `vaddr`, zeros up to `memsz`.

    `flags` are X 1, W 2, R 4.
    """

    vaddr: int
    offset: int
    filesz: int
    memsz: int
    flags: int
    align: int


@dataclass(frozen=True, slots=True)
class ElfImage:
    """A checked program file. Addresses are as in the file; `kind` is ET_EXEC (fixed) or ET_DYN.

    `phdr_vaddr` is where the program headers are loaded, 0 when they are not. `interpreter` is PT_INTERP.
    """

    path: str
    kind: str
    entry: int
    phdr_vaddr: int
    phentsize: int
    phnum: int
    segments: tuple[Segment, ...]
    interpreter: str | None
    executable_stack: bool

    @property
    def start(self) -> int:
        """The first page that a segment occupies."""
        return page_down(self.segments[0].vaddr)

    @property
    def end(self) -> int:
        """The end of the last page that a segment occupies."""
        return page_up(max(segment.vaddr + segment.memsz for segment in self.segments))

    @property
    def align(self) -> int:
        """The largest alignment that a segment asks for, at least a page."""
        return max(PAGE_4K, *(segment.align for segment in self.segments))


def read_elf(path: str) -> ElfImage:
    """Return the image in file `path`. Raises FormatError or OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        structs = _identify(file, size)
        try:
            header = struct_parse(structs.Elf_Ehdr, file, 0)
            kind = _check_header(header, size)
            phdrs = [
                struct_parse(structs.Elf_Phdr, file, header["e_phoff"] + index * _PHDR_BYTES)
                for index in range(header["e_phnum"])
            ]
        except ELFError as error:
            raise FormatError(f"ELF header cannot be read: {error}") from None
        segments = _load_segments(phdrs, size, kind)
        return ElfImage(
            path=path,
            kind=kind,
            entry=header["e_entry"],
            phdr_vaddr=_phdr_vaddr(header, phdrs, segments),
            phentsize=_PHDR_BYTES,
            phnum=header["e_phnum"],
            segments=segments,
            interpreter=_interpreter(file, phdrs, size),
            executable_stack=any(p["p_type"] == "PT_GNU_STACK" and p["p_flags"] & _EXECUTE for p in phdrs),
        )


def _identify(file: BinaryIO, size: int) -> Any:
    """Check e_ident and e_machine, and return pyelftools' structures for the file."""
    start = file.read(_HEADER_BYTES)
    if not start.startswith(b"\x7fELF"):
        raise FormatError(f"not an ELF program (starts with 0x{start[:4].hex()})")
    if len(start) < 20:
        raise _truncated_header(size)
    bits, order = start[4], start[5]
    structs = ELFStructs(little_endian=order != 2, elfclass=32 if bits == 1 else 64)
    structs.create_basic_structs()
    machine = _machine_name(int.from_bytes(start[18:20], "big" if order == 2 else "little"))
    if machine != "x86-64":
        raise FormatError(f"ELF for {machine}; Quire runs x86-64")
    if bits != 2 or order != 1:
        what = "32-bit" if bits == 1 else f"class {bits}" if bits != 2 else f"byte order {order}"
        raise FormatError(f"{what} ELF; Quire runs 64-bit little-endian x86-64")
    if len(start) < _HEADER_BYTES:
        raise _truncated_header(size)
    structs.create_advanced_structs(e_type=None, e_machine="EM_X86_64")
    return structs


def _truncated_header(size: int) -> FormatError:
    return FormatError(f"ELF is truncated: the file has {size:#x} bytes, the header {_HEADER_BYTES:#x}")


def _machine_name(number: int) -> str:
    """Return the name of e_machine `number`: ``AArch64``, ``x86-64``."""
    if number == ENUM_E_MACHINE["EM_X86_64"]:
        return "x86-64"
    for name, value in ENUM_E_MACHINE.items():
        if value == number and name in _NAMES:
            return _NAMES[name]
    for name, value in ENUM_E_MACHINE.items():
        if value == number:
            described = describe_e_machine(name)
            return name.removeprefix("EM_") if described == "<unknown>" else described
    return f"machine {number:#x}"


def _check_header(header: Any, size: int) -> str:
    kind = header["e_type"]
    if kind not in ("ET_EXEC", "ET_DYN"):
        raise FormatError(f"ELF of type {kind}; a program is ET_EXEC or ET_DYN: link it")
    if header["e_phentsize"] != _PHDR_BYTES:
        raise FormatError(f"ELF program headers of {header['e_phentsize']} bytes; x86-64 has {_PHDR_BYTES}")
    count, offset = header["e_phnum"], header["e_phoff"]
    if not 1 <= count <= _MAX_PHDRS:
        raise FormatError(f"ELF with {count} program headers; 1 to {_MAX_PHDRS} are possible")
    end = offset + count * _PHDR_BYTES
    if end > size:
        raise FormatError(f"ELF is truncated: program headers end at {end:#x}, the file at {size:#x}")
    if header["e_entry"] >= ADDRESS_END:
        raise FormatError(f"ELF entry point {header['e_entry']:#x}; user space ends at {ADDRESS_END:#x}")
    return str(kind)


def _load_segments(phdrs: list[Any], size: int, kind: str) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    end = MMAP_MIN_ADDR if kind == "ET_EXEC" else 0
    for index, phdr in enumerate(phdrs):
        if phdr["p_type"] != "PT_LOAD" or phdr["p_memsz"] == 0 == phdr["p_filesz"]:
            continue
        segment = Segment(
            vaddr=phdr["p_vaddr"],
            offset=phdr["p_offset"],
            filesz=phdr["p_filesz"],
            memsz=phdr["p_memsz"],
            flags=phdr["p_flags"] & 7,
            align=phdr["p_align"],
        )
        _check_segment(segment, f"ELF segment {index}", size)
        if segment.vaddr < end:
            before = "the segment before ends" if segments else "programs may start"
            raise FormatError(f"ELF segment {index} begins at {segment.vaddr:#x}; {before} at {end:#x}")
        end = segment.vaddr + segment.memsz
        segments.append(segment)
    if not segments:
        raise FormatError("ELF without a loadable segment: there is nothing to run")
    return tuple(segments)


def _check_segment(segment: Segment, name: str, size: int) -> None:
    if segment.filesz > segment.memsz:
        raise FormatError(f"{name} has {segment.filesz:#x} bytes in the file, {segment.memsz:#x} in memory")
    if segment.offset + segment.filesz > size:
        raise FormatError(
            f"ELF is truncated: segment at {segment.vaddr:#x} ends at {segment.offset + segment.filesz:#x}, "
            f"the file at {size:#x}"
        )
    if segment.vaddr + segment.memsz > ADDRESS_END:
        raise FormatError(
            f"{name} ends at {segment.vaddr + segment.memsz:#x}; user space ends at {ADDRESS_END:#x}"
        )
    if segment.align & (segment.align - 1) or segment.align >= ADDRESS_END:
        raise FormatError(f"{name} has alignment {segment.align:#x}; it must be a power of two")
    if (segment.vaddr - segment.offset) % PAGE_4K:
        raise FormatError(
            f"{name} has address {segment.vaddr:#x} and offset {segment.offset:#x}: they differ within a page"
        )


def _phdr_vaddr(header: Any, phdrs: list[Any], segments: tuple[Segment, ...]) -> int:
    """Return where the headers are loaded: in the segment that contains them, as the kernel finds them."""
    offset: int = header["e_phoff"]
    for segment in segments:
        if segment.offset <= offset < segment.offset + segment.filesz:
            return segment.vaddr + offset - segment.offset
    for phdr in phdrs:
        if phdr["p_type"] == "PT_PHDR" and phdr["p_vaddr"] < ADDRESS_END:
            return int(phdr["p_vaddr"])
    return 0


def _interpreter(file: BinaryIO, phdrs: list[Any], size: int) -> str | None:
    for phdr in phdrs:
        if phdr["p_type"] == "PT_INTERP":
            offset, length = phdr["p_offset"], phdr["p_filesz"]
            if not 2 <= length <= _MAX_INTERPRETER:
                raise FormatError(
                    f"ELF interpreter name of {length} bytes; 2 to {_MAX_INTERPRETER} are possible"
                )
            if offset + length > size:
                raise FormatError(
                    f"ELF is truncated: the interpreter name ends at {offset + length:#x}, "
                    f"the file at {size:#x}"
                )
            file.seek(offset)
            name = file.read(length)
            if not name.endswith(b"\0"):
                raise FormatError("ELF interpreter name does not end with a NUL")
            return os.fsdecode(name.split(b"\0", 1)[0])
    return None
