"""EPT entries and EPTP: golden masks, and the entries that reference/architecture.md records from Bochs."""

import pytest

from quire.arch.ept import (
    EPT_MEMORY_TYPES,
    EPT_PDE,
    EPT_PDE_2M,
    EPT_PDPTE,
    EPT_PDPTE_1G,
    EPT_PML4E,
    EPT_PTE,
    EPTP,
    MemoryType,
    ep4ta,
    ept_layout,
)
from quire.arch.layout import Layout
from quire.errors import MisuseError

BY_LEVEL = {
    (4, False): EPT_PML4E,
    (3, False): EPT_PDPTE,
    (3, True): EPT_PDPTE_1G,
    (2, False): EPT_PDE,
    (2, True): EPT_PDE_2M,
    (1, True): EPT_PTE,
}
OPTIONAL = ["verify_guest_paging", "paging_write", "SSS"]


@pytest.mark.parametrize(
    ("layout", "reserved_mask", "ignored_mask"),
    [
        (EPT_PML4E, 0xF8, 0xFFF0_0000_0000_0A00),
        (EPT_PDPTE, 0x78, 0xFFF0_0000_0000_0A00),
        (EPT_PDE, 0x78, 0xFFF0_0000_0000_0A00),
        (EPT_PDPTE_1G, 0x3FFF_F000, 0x69F0_0000_0000_0800),
        (EPT_PDE_2M, 0x1F_F000, 0x69F0_0000_0000_0800),
        (EPT_PTE, 0, 0x49F0_0000_0000_0880),
    ],
)
def test_golden_masks(layout: Layout, reserved_mask: int, ignored_mask: int) -> None:
    assert layout.reserved_mask == reserved_mask
    assert layout.ignored_mask == ignored_mask


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (EPT_PML4E, ["R", "W", "X", "A", "XU", "addr"]),
        (EPT_PDE, ["R", "W", "X", "PS", "A", "XU", "addr"]),
        (EPT_PDE_2M, ["R", "W", "X", "MT", "IPAT", "PS", "A", "D", "XU", "addr", *OPTIONAL, "suppress_VE"]),
        (EPT_PTE, ["R", "W", "X", "MT", "IPAT", "A", "D", "XU", "addr", *OPTIONAL, "SPP", "suppress_VE"]),
    ],
)
def test_names_in_order(layout: Layout, names: list[str]) -> None:
    assert list(layout.decode(0)) == names


def test_places() -> None:
    names = ("R", "W", "X", "MT", "IPAT", "A", "D", "XU", *OPTIONAL, "SPP", "suppress_VE")
    assert [EPT_PTE.shift(name) for name in names] == [0, 1, 2, 3, 6, 8, 9, 10, 57, 58, 60, 61, 63]
    assert EPT_PDPTE_1G.mask("addr") == 0x000F_FFFF_C000_0000
    assert EPT_PDE_2M.mask("addr") == 0x000F_FFFF_FFE0_0000


def test_flags() -> None:
    entry = EPT_PTE.encode(R=1, W=1, X=1, MT=MemoryType.WB, addr=0x7000)
    assert entry == 0x7037
    assert EPT_PTE.flags(entry) == "R W X MT=0x6 addr=0x7000"


@pytest.mark.parametrize(("level", "leaf"), BY_LEVEL)
def test_ept_layout(level: int, leaf: bool) -> None:
    assert ept_layout(level, leaf) is BY_LEVEL[level, leaf]


@pytest.mark.parametrize(
    ("level", "leaf", "kind"), [(4, True, "page"), (1, False, "table"), (6, False, "table")]
)
def test_ept_layout_wrong(level: int, leaf: bool, kind: str) -> None:
    with pytest.raises(MisuseError) as caught:
        ept_layout(level, leaf)
    assert str(caught.value) == (
        f"EPT level {level:#x} has no entry for a {kind}: "
        "pages are at levels 0x1 to 0x3, tables at 0x2 to 0x5"
    )


def test_memory_types() -> None:
    assert {int(kind) for kind in EPT_MEMORY_TYPES} == {0, 1, 4, 5, 6}
    assert MemoryType.UC_MINUS == 7
    assert MemoryType.UC_MINUS not in EPT_MEMORY_TYPES


def test_eptp() -> None:
    eptp = EPTP.encode(MT=MemoryType.WB, walk_length=3, AD=1, addr=0x1234_5000)
    assert eptp == 0x1234_505E
    assert ep4ta(eptp) == 0x12345
    assert ep4ta(EPTP.set(eptp, AD=0, MT=0)) == ep4ta(eptp)
    assert EPTP.reserved_mask == 0xFFF0_0000_0000_0F00
