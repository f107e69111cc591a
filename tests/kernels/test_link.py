"""Objects become images, and what no loader could do is refused when they are made."""

import struct
from typing import NamedTuple

import pytest

from quire.kernels.link import LinkError, link

ALLOC, EXECUTE, WRITE = 2, 4, 1
ADDRESS, RELATIVE, PLT = 1, 2, 4


class Relocation(NamedTuple):
    """One of a section of code."""

    kind: int
    symbol: str
    addend: int = 0
    offset: int = 0


def elf(
    *relocations: Relocation, flags: int = ALLOC | EXECUTE, name: str = ".ltext", data: bytes = bytes(16)
) -> bytes:
    """Return an object with the section `name`, in which `f` is at 4; other symbols are of elsewhere."""
    symbols = ["f", *dict.fromkeys(one.symbol for one in relocations if one.symbol != "f")]
    strings = b"\0" + b"".join(one.encode() + b"\0" for one in symbols)
    places = {one: 1 + sum(len(before) + 1 for before in symbols[: symbols.index(one)]) for one in symbols}
    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", places[one], 0x12, 0, 1 if one == "f" else 0, 4 if one == "f" else 0, 0)
        for one in symbols
    )
    added = b"".join(
        struct.pack("<QQq", one.offset, (symbols.index(one.symbol) + 1) << 32 | one.kind, one.addend)
        for one in relocations
    )
    names = b"\0" + b"\0".join((name.encode(), b".rela", b".symtab", b".strtab")) + b"\0"
    sections = [  # name, type, flags, content, link, info, size of an entry
        ("", 0, 0, b"", 0, 0, 0),
        (name, 1, flags, data, 0, 0, 0),
        (".rela", 4, 0, added, 3, 1, 24),
        (".symtab", 2, 0, table, 4, 1, 24),
        (".strtab", 3, 0, strings, 0, 0, 0),
        (".strtab", 3, 0, names, 0, 0, 0),
    ]
    body, headers, at = b"", b"", 64
    for title, kind, flag, content, linked, info, size in sections:
        where = names.index(title.encode() + b"\0") if title else 0
        headers += struct.pack("<IIQQQQIIQQ", where, kind, flag, 0, at, len(content), linked, info, 16, size)
        body, at = body + content, at + len(content)
    ident = b"\x7fELF\2\1\1" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, at, 0, 64, 0, 0, 64, 6, 5) + body + headers


def test_addresses_within_are_known_but_for_the_start_and_others_are_listed() -> None:
    own, other = Relocation(ADDRESS, "f", 3, 8), Relocation(ADDRESS, "PyErr_Occurred", 1, 0)
    linked = link([("first", "f", elf(own, other)), ("second", "f", elf(own, data=b"\x90" * 20))])
    assert linked.entries == {"first": 4, "second": 20}
    assert (linked.inner, linked.symbols) == ([8, 24], {"PyErr_Occurred": [0]})
    words = struct.unpack_from("<QQQQ", linked.code)
    assert words == (1, 4 + 3, 0x9090909090909090, 16 + 4 + 3)


@pytest.mark.parametrize("kind", [RELATIVE, PLT, 9, 24, 42])
def test_other_relocations_are_refused(kind: int) -> None:
    with pytest.raises(LinkError, match=rf"walk: relocation of type {kind} for 'memset': only R_X86_64_64"):
        link([("walk", "f", elf(Relocation(kind, "memset")))])


@pytest.mark.parametrize(
    "symbol", ["NRT_MemInfo_alloc_safe_aligned", "numba_unpickle", ".numba.unresolved$f"]
)
def test_a_kernel_that_needs_numbas_run_time_is_refused(symbol: str) -> None:
    with pytest.raises(LinkError, match="of Numba's run time: kernels may not allocate or raise"):
        link([("walk", "f", elf(Relocation(ADDRESS, symbol)))])


def test_what_is_never_called_has_no_name() -> None:
    assert link([("walk", "f", elf(Relocation(ADDRESS, "NRT_MemInfo_call_dtor")))]).symbols == {"": [0]}


def test_data_that_is_written_to_is_refused() -> None:
    with pytest.raises(LinkError, match=r"section \.data is written to"):
        link([("walk", "f", elf(flags=ALLOC | WRITE, name=".data"))])
    assert link([("walk", "f", elf(flags=ALLOC | WRITE, name=".data.rel.ro"))]).entries == {"walk": 4}
