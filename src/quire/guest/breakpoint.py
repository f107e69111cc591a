"""Where a run is to end before the program does: at an instruction, or at a system call.

Symbols are those of the program's own file. Fails with MisuseError for what names no such place.
"""

import re
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from quire.errors import MisuseError, did_you_mean
from quire.guest.load.launch import Program
from quire.guest.syscalls import SYSCALLS
from quire.paging.settings import parse_number

__all__ = ["AtAddress", "AtSyscall", "Breakpoint", "parse_address", "parse_syscall"]


@dataclass(frozen=True, slots=True)
class AtAddress:
    """Before the instruction at `address` runs for the first time. `in_file`: it moves with the program.

    `text` says it in words: ``before main``.
    """

    text: str
    address: int
    in_file: bool


@dataclass(frozen=True, slots=True)
class AtSyscall:
    """Before the guest's kernel does system call `name`, when it is asked for the `count`-th time."""

    text: str
    name: str
    count: int


Breakpoint = AtAddress | AtSyscall


def parse_address(text: str, program: Program) -> AtAddress:
    """Return the place that `text` names: a linear address, ``0x401000``, or a symbol of the program's file."""
    if text[:1].isdigit():
        return AtAddress(f"before {text}", parse_number(text), False)
    values = _symbols(program.path)
    if text not in values:
        why = did_you_mean(text, values) if values else ": it has none at all"
        raise MisuseError(f"{program.path} has no symbol {text!r}{why}; give one that it has, or an address")
    return AtAddress(f"before {text}", values[text], program.image.kind == "ET_DYN")


def parse_syscall(text: str) -> AtSyscall:
    """Return the place that `text` names: ``write``, or ``write:3`` for the third."""
    found = re.fullmatch(r"(\w+)(?::([1-9][0-9]{0,8}))?", text, re.ASCII)
    if found is None:
        raise MisuseError(
            f"{text!r} is no system call: give a name, or NAME:N for the N-th, write:3 for instance"
        )
    name, count = found[1], int(found[2] or 1)
    names = [call.name for call in SYSCALLS.values()]
    if name not in names:
        raise MisuseError(f"Linux has no system call {name!r}{did_you_mean(name, names)}")
    return AtSyscall(f"before {name}" + (f", call {count}" if found[2] else ""), name, count)


def _symbols(path: str) -> dict[str, int]:
    """Return what the file's symbol tables define, by name; the full table before that of the dynamic linker."""
    values: dict[str, int] = {}
    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            for name in (".symtab", ".dynsym"):
                section = elf.get_section_by_name(name)
                if isinstance(section, SymbolTableSection):
                    for symbol in section.iter_symbols():
                        if symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
                            values.setdefault(symbol.name, symbol["st_value"])
    except (ELFError, OSError) as error:
        raise MisuseError(f"The symbols of {path} cannot be read: {error}; give an address") from None
    return values
