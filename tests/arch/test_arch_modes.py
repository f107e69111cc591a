"""Paging modes: which one is chosen, their geometry, and the entries of 32-bit, PAE and 5-level paging."""

import pytest

from quire.arch import (
    CR0,
    CR4,
    EFER,
    PAE_PDE,
    PAE_PDE_2M,
    PAE_PDPTE,
    PAE_PTE,
    PDE_4M,
    PDE_32,
    PML4E,
    PML5E,
    PTE_32,
    Layout,
    PagingMode,
    entry_layout,
    gva_index,
    level_shift,
    linear_width,
    page_size,
    paging_mode,
    pse36_reserved,
)
from quire.errors import MisuseError

M = PagingMode


@pytest.mark.parametrize(
    ("pg", "pae", "lma", "la57", "mode"),
    [
        (0, 1, 1, 1, M.NONE),
        (1, 0, 0, 0, M.BITS_32),
        (1, 0, 0, 1, M.BITS_32),
        (1, 1, 0, 0, M.PAE),
        (1, 1, 0, 1, M.PAE),
        (1, 1, 1, 0, M.LEVEL_4),
        (1, 1, 1, 1, M.LEVEL_5),
    ],
)
def test_paging_mode(pg: int, pae: int, lma: int, la57: int, mode: PagingMode) -> None:
    assert paging_mode(CR0.encode(PG=pg), CR4.encode(PAE=pae, LA57=la57), EFER.encode(LMA=lma)) is mode


@pytest.mark.parametrize(
    ("mode", "width", "shifts", "sizes"),
    [
        (M.BITS_32, 32, [22, 12], [1 << 22, 1 << 12]),
        (M.PAE, 32, [30, 21, 12], [1 << 21, 1 << 12]),
        (M.LEVEL_4, 48, [39, 30, 21, 12], [1 << 30, 1 << 21, 1 << 12]),
        (M.LEVEL_5, 57, [48, 39, 30, 21, 12], [1 << 30, 1 << 21, 1 << 12]),
    ],
)
def test_geometry(mode: PagingMode, width: int, shifts: list[int], sizes: list[int]) -> None:
    assert linear_width(mode) == width
    assert [level_shift(level, mode) for level in range(mode, 0, -1)] == shifts
    assert [page_size(level, mode) for level in range(len(sizes), 0, -1)] == sizes
    ones = (1 << width) - 1
    rebuilt = ones & 0xFFF
    for level in range(1, mode + 1):
        rebuilt |= gva_index(ones, level, mode) << level_shift(level, mode)
    assert rebuilt == ones


@pytest.mark.parametrize(
    ("layout", "reserved_mask"),
    [
        (PDE_32, 0),
        (PDE_4M, 1 << 21),
        (PTE_32, 0),
        (PAE_PDPTE, 0xFFF0_0000_0000_01E6),
        (PAE_PDE, 0x7FF0_0000_0000_0000),
        (PAE_PDE_2M, 0x7FF0_0000_001F_E000),
        (PAE_PTE, 0x7FF0_0000_0000_0000),
        (PML5E, 0x80),
    ],
)
def test_golden_reserved_masks(layout: Layout, reserved_mask: int) -> None:
    assert layout.reserved_mask == reserved_mask


def test_the_top_of_five_levels() -> None:
    assert entry_layout(5, False, M.LEVEL_5) is PML5E
    assert entry_layout(4, False, M.LEVEL_5) is PML4E


@pytest.mark.parametrize(
    ("maxphyaddr", "pse36", "mask"),
    [
        (32, True, 0x3F_E000),
        (36, True, 0x3E_0000),
        (40, True, 0x20_0000),
        (52, True, 0x20_0000),
        (52, False, 0x3F_E000),
    ],
)
def test_pse36_reserved(maxphyaddr: int, pse36: bool, mask: int) -> None:
    assert pse36_reserved(maxphyaddr, pse36) == mask


@pytest.mark.parametrize(
    ("level", "leaf", "mode", "message"),
    [
        (3, False, M.BITS_32, "Level 0x3 does not exist in 32-bit paging: give 0x1 (PT) to 0x2 (PD)"),
        (4, False, M.PAE, "Level 0x4 does not exist in PAE paging: give 0x1 (PT) to 0x3 (PDPT)"),
        (6, False, M.LEVEL_5, "Level 0x6 does not exist in 5-level paging: give 0x1 (PT) to 0x5 (PML5)"),
        (1, True, M.NONE, "Level 0x1 does not exist without paging: set CR0.PG first"),
        (3, True, M.PAE, "Level 0x3 has no entry that maps a page: pages are mapped at levels 0x1 to 0x2"),
    ],
)
def test_entry_layout_wrong(level: int, leaf: bool, mode: PagingMode, message: str) -> None:
    with pytest.raises(MisuseError) as caught:
        entry_layout(level, leaf, mode)
    assert str(caught.value) == message
