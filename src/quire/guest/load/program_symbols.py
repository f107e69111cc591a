"""What the symbol tables of a program's own file define: names to values, before the program is moved."""

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from quire.errors import MisuseError

__all__ = ["program_symbols"]


def program_symbols(path: str) -> dict[str, int]:
    """Return what the file's symbol tables define, by name; the full table before that of the dynamic linker.

    Raises MisuseError for a file whose tables cannot be read.
    """
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
