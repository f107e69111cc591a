"""Objects of the compiler become one image: sections laid out, what is known filled in, what is not listed.

Refused is whatever the loader could not do: relocations other than whole addresses, data that is written to, and calls
of Numba's own run time, which is not there.
"""

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_x64

__all__ = ["LinkError", "Linked", "link"]

_ADDRESS = ENUM_RELOC_TYPE_x64["R_X86_64_64"]
#: Of Numba's run time, what only is called with a reference to count, which stored code has none of.
_NEVER_CALLED = frozenset(("NRT_MemInfo_call_dtor",))
_RUN_TIME = ("NRT_", "numba_", ".numba")
_WORD = 8


class LinkError(Exception):
    """An object holds what stored code may not."""


class Linked(NamedTuple):
    """Code with the places that its loader adds to, see ``image.py``."""

    entries: dict[str, int]
    inner: list[int]
    symbols: dict[str, list[int]]
    code: bytes


def link(objects: Iterable[tuple[str, str, bytes]]) -> Linked:
    """Lay out `objects`: (name, symbol that it begins at, ELF object) each."""
    linked = Linked({}, [], {}, b"")
    code = bytearray()
    for name, symbol, content in objects:
        linked.entries[name] = _Object(name, ELFFile(io.BytesIO(content)), code, linked).address(symbol)
    return linked._replace(code=bytes(code))


class _Object:
    def __init__(self, name: str, file: Any, code: bytearray, linked: Linked) -> None:
        self._name, self._file, self._code, self._linked = name, file, code, linked
        self._places: dict[int, int] = {}
        self._symbols = file.get_section_by_name(".symtab")
        for number, section in enumerate(file.iter_sections()):
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_type"] != "SHT_AMD64_UNWIND":
                self._place(number, section)
        for section in file.iter_sections():
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in self._places:
                for relocation in section.iter_relocations():
                    self._relocate(self._places[section["sh_info"]], relocation)

    def _place(self, number: int, section: Any) -> None:
        if not section["sh_size"]:
            return
        if section["sh_flags"] & SH_FLAGS.SHF_WRITE and not section.name.endswith(".rel.ro"):
            raise LinkError(
                f"{self._name}: section {section.name} is written to: stored code has no such memory"
            )
        self._code += bytes(-len(self._code) % max(section["sh_addralign"], 16))
        self._places[number] = len(self._code)
        self._code += section.data()

    def _relocate(self, start: int, relocation: Any) -> None:
        kind, place = relocation["r_info_type"], start + relocation["r_offset"]
        symbol = self._symbols.get_symbol(relocation["r_info_sym"])
        if kind != _ADDRESS:
            raise LinkError(
                f"{self._name}: relocation of type {kind} for {symbol.name!r}: only R_X86_64_64 is loaded"
            )
        target, section = relocation["r_addend"], symbol["st_shndx"]
        if section in ("SHN_UNDEF", "SHN_COMMON"):
            self._name_symbol(symbol.name, place)
        elif section in self._places:
            target += self._places[section] + symbol["st_value"]
            self._linked.inner.append(place)
        else:
            raise LinkError(f"{self._name}: {symbol.name!r} is in section {section}, which is not loaded")
        self._code[place : place + _WORD] = (target % (1 << 64)).to_bytes(_WORD, "little")

    def _name_symbol(self, symbol: str, place: int) -> None:
        if symbol.startswith(_RUN_TIME) and symbol not in _NEVER_CALLED:
            raise LinkError(
                f"{self._name} calls {symbol} of Numba's run time: kernels may not allocate or raise"
            )
        self._linked.symbols.setdefault("" if symbol in _NEVER_CALLED else symbol, []).append(place)

    def address(self, symbol: str) -> int:
        """Return where `symbol` is in the code."""
        (found,) = self._symbols.get_symbol_by_name(symbol)
        return int(self._places[found["st_shndx"]] + found["st_value"])
