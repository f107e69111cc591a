"""Names of code addresses of a process: from the symbol tables of the files that are mapped there.

Reads .symtab and .dynsym with pyelftools, each file once and only when an address in it is asked for. A file without
symbols, or one that is not ELF, has no names: that is not an error.
"""

import os
from bisect import bisect_right
from io import BytesIO

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from quire.guest.mm.address_space import AddressSpace
from quire.guest.mm.backing import FileBacking

__all__ = ["Symbols"]

_FUNCTIONS = ("STT_FUNC", "STT_GNU_IFUNC", "STT_NOTYPE")


class _File:
    """Function symbols of one ELF file, by the offset of their code in the file."""

    def __init__(self, content: bytes) -> None:
        self._found: list[tuple[int, int, str]] = []
        try:
            self._read(ELFFile(BytesIO(content)))
        except (ELFError, UnicodeDecodeError, ValueError):
            self._found = []
        self._found.sort()
        self._starts = [start for start, _, _ in self._found]

    def name(self, offset: int) -> str | None:
        """Return the symbol that holds file `offset`, with the distance from its start."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        start, size, name = self._found[index]
        if offset >= start + max(size, 1):
            return None
        return name if offset == start else f"{name}+{offset - start:#x}"

    def _read(self, elf: ELFFile) -> None:
        loads = [part for part in elf.iter_segments("PT_LOAD")]
        for section in elf.iter_sections():
            if not isinstance(section, SymbolTableSection):
                continue
            for symbol in section.iter_symbols():
                value = symbol["st_value"]
                if not value or not symbol.name or symbol["st_info"]["type"] not in _FUNCTIONS:
                    continue
                for load in loads:
                    if load["p_vaddr"] <= value < load["p_vaddr"] + load["p_filesz"]:
                        offset = value - load["p_vaddr"] + load["p_offset"]
                        self._found.append((offset, symbol["st_size"], symbol.name))


class Symbols:
    """Names of addresses in `space`, as it is mapped now."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._files: dict[tuple[int, int], _File] = {}

    def name(self, address: int) -> str | None:
        """Return ``symbol+0x12 in file`` for code at `address`: the file alone without symbols, None without a file."""
        area = self._space.areas.find(address)
        if area is None or not isinstance(area.backing, FileBacking):
            return None
        backing = area.backing
        known = self._files.get(backing.key)
        if known is None:
            known = self._files[backing.key] = _File(_content(backing.fd))
        name = known.name(area.offset_at(address))
        file = os.fsdecode(os.path.basename(backing.name))
        return f"in {file}" if name is None else f"{name} in {file}"


def _content(fd: int) -> bytes:
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    except OSError:
        return b""
