"""Names of code addresses, from the symbol tables of mapped files."""

import os
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from quire.guest.load.symbols import Symbols
from quire.guest.mm.backing import FileBacking
from quire.guest.mm.linux import PROT_EXEC, PROT_READ
from quire.guest.mm.vma import Vma, VmaList


class Space:
    """The part of an address space that names need."""

    def __init__(self) -> None:
        self.areas = VmaList()


def mapped(path: Path, start: int = 0x7000_0000) -> tuple[Symbols, int]:
    """Return names of a space where the whole file at `path` is mapped at `start`."""
    fd = os.open(path, os.O_RDONLY)
    status = os.fstat(fd)
    space = Space()
    backing = FileBacking((status.st_dev, status.st_ino), os.fsencode(path), fd=fd)
    end = start + (status.st_size + 0xFFF & -0x1000)
    space.areas.insert(Vma(start, end, PROT_READ | PROT_EXEC, backing=backing))
    return Symbols(space), start  # type: ignore[arg-type]


def libc() -> Path:
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = line.split()[-1]
        if "/libc.so" in name or "/libc-" in name:
            return Path(name)
    pytest.skip("this Python has no dynamic C library")


def test_a_function_of_a_library() -> None:
    path = libc()
    with path.open("rb") as file:
        elf = ELFFile(file)
        (symbol,) = (
            one for one in elf.get_section_by_name(".dynsym").iter_symbols() if one.name == "getppid"
        )
        offset = next(elf.address_offsets(symbol["st_value"]))
    symbols, start = mapped(path)
    assert symbols.name(start + offset + 2) == f"getppid+0x2 in {path.name}"
    assert symbols.name(start + offset) == f"getppid in {path.name}"
    assert symbols.name(start) == f"in {path.name}"
    assert symbols.name(0x1000) is None


def test_a_file_that_is_not_elf_has_no_names(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\x7fELF but not really")
    symbols, start = mapped(file)
    assert symbols.name(start + 4) == "in text"
