"""Guest entries: golden masks from the manual's tables, and the geometry of the four levels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch import (
    INDEX_BITS,
    PAGE_SHIFT,
    PAGE_SIZE,
    PDE,
    PDE_2M,
    PDPTE,
    PDPTE_1G,
    PML4E,
    PTE,
    entry_layout,
    gva_index,
    is_canonical,
    level_shift,
    page_size,
    physical_reserved,
)
from quire.arch.layout import Layout
from quire.errors import MisuseError

BY_LEVEL = {
    (4, False): PML4E,
    (3, False): PDPTE,
    (3, True): PDPTE_1G,
    (2, False): PDE,
    (2, True): PDE_2M,
    (1, True): PTE,
}
TABLE = ["P", "RW", "US", "PWT", "PCD", "A"]


def test_constants() -> None:
    assert (PAGE_SHIFT, PAGE_SIZE, INDEX_BITS) == (12, 4096, 9)


@pytest.mark.parametrize(
    ("layout", "reserved_mask", "ignored_mask", "addr_mask"),
    [
        (PML4E, 0x80, 0x7FF0_0000_0000_0F40, 0x000F_FFFF_FFFF_F000),
        (PDPTE, 0, 0x7FF0_0000_0000_0F40, 0x000F_FFFF_FFFF_F000),
        (PDE, 0, 0x7FF0_0000_0000_0F40, 0x000F_FFFF_FFFF_F000),
        (PDPTE_1G, 0x3FFF_E000, 0x07F0_0000_0000_0E00, 0x000F_FFFF_C000_0000),
        (PDE_2M, 0x1F_E000, 0x07F0_0000_0000_0E00, 0x000F_FFFF_FFE0_0000),
        (PTE, 0, 0x07F0_0000_0000_0E00, 0x000F_FFFF_FFFF_F000),
    ],
)
def test_golden_masks(layout: Layout, reserved_mask: int, ignored_mask: int, addr_mask: int) -> None:
    assert layout.reserved_mask == reserved_mask
    assert layout.ignored_mask == ignored_mask
    assert layout.mask("addr") == addr_mask


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (PML4E, [*TABLE, "addr", "XD"]),
        (PDPTE, [*TABLE, "PS", "addr", "XD"]),
        (PDE, [*TABLE, "PS", "addr", "XD"]),
        (PDPTE_1G, [*TABLE, "D", "PS", "G", "PAT", "addr", "pkey", "XD"]),
        (PDE_2M, [*TABLE, "D", "PS", "G", "PAT", "addr", "pkey", "XD"]),
        (PTE, [*TABLE, "D", "PAT", "G", "addr", "pkey", "XD"]),
    ],
)
def test_names_in_order(layout: Layout, names: list[str]) -> None:
    assert list(layout.decode(0)) == names


def test_places() -> None:
    assert [
        PTE.shift(name) for name in ("P", "RW", "US", "PWT", "PCD", "A", "D", "PAT", "G", "pkey", "XD")
    ] == [
        *range(9),
        59,
        63,
    ]
    assert PDE_2M.shift("PAT") == PDPTE_1G.shift("PAT") == 12
    assert PDE_2M.mask("PS") == PDE.mask("PS") == 0x80


def test_flags_of_a_real_entry() -> None:
    assert PTE.flags(0x8000_0000_1234_5067) == "P RW US A D addr=0x12345000 XD"
    assert PDE_2M.flags(PDE_2M.encode(P=1, PS=1, addr=0x20_0000, pkey=3)) == "P PS addr=0x200000 pkey=0x3"


def test_encode_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        PDE_2M.encode(addr=0x1000)
    assert str(caught.value) == "PDE_2M.addr = 0x1000 is not aligned to 0x200000: clear bits 20:0"


@pytest.mark.parametrize(("level", "leaf"), BY_LEVEL)
def test_entry_layout(level: int, leaf: bool) -> None:
    assert entry_layout(level, leaf) is BY_LEVEL[level, leaf]


@pytest.mark.parametrize(
    ("level", "leaf", "message"),
    [
        (0, True, "Level 0x0 does not exist in 4-level paging: give 0x1 (PT) to 0x4 (PML4)"),
        (5, False, "Level 0x5 does not exist in 4-level paging: give 0x1 (PT) to 0x4 (PML4)"),
        (4, True, "Level 0x4 has no entry that maps a page: pages are mapped at levels 0x1 to 0x3"),
        (1, False, "Level 0x1 has no entry that references a table: its entries map pages, pass leaf=True"),
    ],
)
def test_entry_layout_wrong(level: int, leaf: bool, message: str) -> None:
    with pytest.raises(MisuseError) as caught:
        entry_layout(level, leaf)
    assert str(caught.value) == message


def test_geometry() -> None:
    assert [level_shift(level) for level in (4, 3, 2, 1)] == [39, 30, 21, 12]
    assert [page_size(level) for level in (3, 2, 1)] == [1 << 30, 1 << 21, 1 << 12]
    with pytest.raises(MisuseError) as caught:
        page_size(4)
    assert str(caught.value) == (
        "Level 0x4 has no entry that maps a page: pages are mapped at levels 0x1 to 0x3"
    )


@given(st.integers(0, (1 << 48) - 1))
def test_indices_and_offset_rebuild_the_address(gva: int) -> None:
    rebuilt = gva % PAGE_SIZE
    for level in (1, 2, 3, 4):
        assert 0 <= gva_index(gva, level) < 512
        rebuilt |= gva_index(gva, level) << level_shift(level)
    assert rebuilt == gva


@pytest.mark.parametrize(
    ("gva", "width", "expected"),
    [
        (0, 48, True),
        (0x0000_7FFF_FFFF_FFFF, 48, True),
        (0x0000_8000_0000_0000, 48, False),
        (0xFFFF_7FFF_FFFF_FFFF, 48, False),
        (0xFFFF_8000_0000_0000, 48, True),
        (0xFFFF_FFFF_FFFF_FFFF, 48, True),
        (0x0000_8000_0000_0000, 57, True),
        (0x0100_0000_0000_0000, 57, False),
        (0xFF00_0000_0000_0000, 57, True),
        (1 << 64, 48, False),
        (-1, 48, False),
    ],
)
def test_is_canonical(gva: int, width: int, expected: bool) -> None:
    assert is_canonical(gva, width) is expected


def test_is_canonical_wrong() -> None:
    with pytest.raises(MisuseError) as caught:
        is_canonical(0, 65)
    assert str(caught.value) == (
        "Linear-address width 0x41 is impossible: give 0x30 (4-level) or 0x39 (5-level)"
    )


def test_physical_reserved() -> None:
    assert physical_reserved(52) == 0
    assert physical_reserved(46) == 0x000F_C000_0000_0000
    assert physical_reserved(36) == 0x000F_FFF0_0000_0000
    for wrong in (31, 53):
        with pytest.raises(MisuseError) as caught:
            physical_reserved(wrong)
        assert str(caught.value) == (
            f"MAXPHYADDR {wrong:#x} is outside 0x20 to 0x34: give CPUID.80000008H:EAX[7:0]"
        )
