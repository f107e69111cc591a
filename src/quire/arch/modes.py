"""Paging modes: which one the control registers choose, its levels, the indices that an address selects.

Levels are numbered as a walk counts down: 5 = PML5, 4 = PML4, 3 = PDPT, 2 = page directory, 1 = page table. A mode's
number is its count of levels; in PAE paging level 3 is the four PDPTE registers. EPT of walk length 4 and 5 has the
geometry of 4-level and 5-level paging. Fails with MisuseError for a level, leaf or width that does not exist.
"""

from enum import IntEnum

from quire.arch.entries import INDEX_BITS, PAGE_SHIFT, PDE, PDE_2M, PDPTE, PDPTE_1G, PML4E, PML5E, PTE
from quire.arch.layout import Layout
from quire.arch.legacy import PAE_PDE, PAE_PDE_2M, PAE_PDPTE, PAE_PTE, PDE_4M, PDE_32, PTE_32
from quire.arch.registers import CR0, CR4, EFER
from quire.errors import MisuseError

__all__ = [
    "PagingMode",
    "entry_layout",
    "gva_index",
    "is_canonical",
    "level_shift",
    "linear_width",
    "page_size",
    "paging_mode",
]


class PagingMode(IntEnum):
    """How linear addresses are translated (SDM 3A §4.1.1); the number is how many levels there are."""

    NONE = 0  #: CR0.PG = 0: a linear address is a physical address
    BITS_32 = 2  #: 32-bit paging: 4-byte entries, 4 KiB and 4 MiB pages
    PAE = 3  #: 8-byte entries, 4 KiB and 2 MiB pages; level 3 lives in four registers
    LEVEL_4 = 4
    LEVEL_5 = 5


_TABLES = {
    PagingMode.BITS_32: {(2, False): PDE_32, (2, True): PDE_4M, (1, True): PTE_32},
    PagingMode.PAE: {(3, False): PAE_PDPTE, (2, False): PAE_PDE, (2, True): PAE_PDE_2M, (1, True): PAE_PTE},
    PagingMode.LEVEL_4: {
        (4, False): PML4E,
        (3, False): PDPTE,
        (3, True): PDPTE_1G,
        (2, False): PDE,
        (2, True): PDE_2M,
        (1, True): PTE,
    },
}
_TABLES[PagingMode.LEVEL_5] = {(5, False): PML5E, **_TABLES[PagingMode.LEVEL_4]}
_TABLES[PagingMode.NONE] = {}

_NAMES = {1: "PT", 2: "PD", 3: "PDPT", 4: "PML4", 5: "PML5"}
_WIDTHS = {PagingMode.LEVEL_4: 48, PagingMode.LEVEL_5: 57}


def paging_mode(cr0: int, cr4: int, efer: int) -> PagingMode:
    """Return the mode that CR0, CR4 and IA32_EFER select. SDM 3A §4.1.1."""
    if not CR0.get(cr0, "PG"):
        return PagingMode.NONE
    if not CR4.get(cr4, "PAE"):
        return PagingMode.BITS_32
    if not EFER.get(efer, "LMA"):
        return PagingMode.PAE
    return PagingMode.LEVEL_5 if CR4.get(cr4, "LA57") else PagingMode.LEVEL_4


def linear_width(mode: PagingMode) -> int:
    """Return how many bits of a linear address are translated: 32, 48 or 57. SDM 3A §4.1.1."""
    return _WIDTHS.get(mode, 32)


def entry_layout(level: int, leaf: bool, mode: PagingMode = PagingMode.LEVEL_4) -> Layout:
    """Return the layout of a guest entry at `level` that maps a page (`leaf`) or references a table.

    SDM 3A §4.3 to §4.5. Raises MisuseError for a level that `mode` does not have, a leaf where pages are not
    mapped and a table at level 1.
    """
    _check_level(level, mode)
    found = _TABLES[mode].get((level, bool(leaf)))
    if found is None:
        raise MisuseError(_no_such_entry(level, leaf, mode))
    return found


def _no_such_entry(level: int, leaf: bool, mode: PagingMode) -> str:
    if leaf:
        most = max(one for one, is_leaf in _TABLES[mode] if is_leaf)
        return f"Level {level:#x} has no entry that maps a page: pages are mapped at levels 0x1 to {most:#x}"
    return f"Level {level:#x} has no entry that references a table: its entries map pages, pass leaf=True"


def _check_level(level: int, mode: PagingMode) -> None:
    if not 1 <= level <= mode:
        words = {PagingMode.NONE: "without paging", PagingMode.BITS_32: "in 32-bit paging"}
        where = words.get(mode, f"in {'PAE' if mode is PagingMode.PAE else f'{mode:d}-level'} paging")
        raise MisuseError(
            f"Level {level:#x} does not exist {where}"
            + (f": give 0x1 (PT) to {int(mode):#x} ({_NAMES[mode]})" if mode else ": set CR0.PG first")
        )


def level_shift(level: int, mode: PagingMode = PagingMode.LEVEL_4) -> int:
    """Return the lowest linear-address bit that indexes a table of `level`: 48, 39, 30, 21, 12 for 5 to 1.

    SDM 3A §4.5. In 32-bit paging 22 and 12. Raises MisuseError for a level that `mode` does not have.
    """
    _check_level(level, mode)
    return PAGE_SHIFT + (_index_bits(mode)) * (level - 1)


def _index_bits(mode: PagingMode) -> int:
    return INDEX_BITS + 1 if mode is PagingMode.BITS_32 else INDEX_BITS


def page_size(level: int, mode: PagingMode = PagingMode.LEVEL_4) -> int:
    """Return the bytes of the page that a leaf at `level` maps: 4 KiB, 2 MiB, 1 GiB for 1 to 3.

    SDM 3A §4.5. In 32-bit paging 4 KiB and 4 MiB. Raises MisuseError for a level that maps no page.
    """
    _check_level(level, mode)
    if (level, True) not in _TABLES[mode]:
        raise MisuseError(_no_such_entry(level, True, mode))
    return 1 << level_shift(level, mode)


def gva_index(gva: int, level: int, mode: PagingMode = PagingMode.LEVEL_4) -> int:
    """Return the index of the entry that `gva` selects in a table of `level`.

    SDM 3A §4.5. Works as well for a guest-physical address in EPT. Raises MisuseError for a level that `mode`
    does not have.
    """
    count = 4 if mode is PagingMode.PAE and level == 3 else 1 << _index_bits(mode)
    return gva >> level_shift(level, mode) & count - 1


def is_canonical(gva: int, width: int = 48) -> bool:
    """Return whether bits 63:`width`-1 of `gva` are all equal, as in a sign-extended linear address.

    SDM 1 §3.3.7.1. An access to a non-canonical address is #GP(0) (#SS for the stack), never #PF. `gva` is
    the 64-bit pattern, so a negative or wider number is not canonical. Raises MisuseError for a width outside
    1 to 64.
    """
    if not 1 <= width <= 64:
        raise MisuseError(
            f"Linear-address width {width:#x} is impossible: give 0x30 (4-level) or 0x39 (5-level)"
        )
    return gva >> (width - 1) in (0, (1 << (65 - width)) - 1)
