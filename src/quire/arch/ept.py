"""Extended page tables: the entries, the EPT pointer and the memory types they hold (SDM 3C §28.3.2).

Models EPT of walk length 4 and 5, every optional bit declared where the architecture puts it. A bit that a
VM-execution control or EPTP bit turns on (XU, A, D, verify guest paging, paging-write, SSS, SPP, suppress #VE) is a
field here and ignored by a processor on which it is off; it never becomes reserved. Whether an entry is present (bits
2:0, and 10 with mode-based execute) is decided by the walk, not here.

Fails with MisuseError for a level or leaf that does not exist. Bits 51:MAXPHYADDR are reserved at run time,
see :func:`quire.arch.entries.physical_reserved`.
"""

from quire.arch.entries import PAGE_SHIFT
from quire.arch.layout import Field, Layout, address, bit, bits, ignored, reserved
from quire.arch.memory_types import MemoryType
from quire.errors import MisuseError

__all__ = [
    "EPTP",
    "EPT_MEMORY_TYPES",
    "EPT_PDE",
    "EPT_PDE_2M",
    "EPT_PDPTE",
    "EPT_PDPTE_1G",
    "EPT_PML4E",
    "EPT_PML5E",
    "EPT_PTE",
    "SPPT_ENTRY",
    "ep4ta",
    "ept_layout",
    "ept_misconfiguration",
]


#: What bits 5:3 of an EPT leaf may hold; any other value is an EPT misconfiguration (SDM 3C §28.3.3.1).
EPT_MEMORY_TYPES: frozenset[MemoryType] = frozenset(MemoryType) - {MemoryType.UC_MINUS}

_RIGHTS: tuple[Field, ...] = (
    bit(0, "R", "reads allowed"),
    bit(1, "W", "writes allowed"),
    bit(2, "X", "fetches allowed; with mode-based execute, from supervisor-mode linear addresses"),
)
_ACCESSED = bit(8, "A", "accessed, if EPTP bit 6 = 1; else ignored")
_USER_EXECUTE = bit(
    10, "XU", "fetches from user-mode linear addresses allowed, if mode-based execute; else ignored"
)

# What every entry that maps a page has, besides its address and bits 7 and 61.
_LEAF: tuple[Field, ...] = (
    *_RIGHTS,
    bits(3, 5, "MT", "memory type of the page"),
    bit(6, "IPAT", "ignore PAT: MT alone is the memory type"),
    _ACCESSED,
    bit(9, "D", "dirty, if EPTP bit 6 = 1; else ignored"),
    _USER_EXECUTE,
    ignored(11),
    ignored(52, 56),
    bit(57, "verify_guest_paging", "verify guest paging, if that control is 1; else ignored"),
    bit(58, "paging_write", "guest paging may write, if EPT paging-write control is 1; else ignored"),
    ignored(59),
    bit(60, "SSS", "supervisor shadow stack, if EPTP bit 7 = 1; else ignored"),
    ignored(62),
    bit(63, "suppress_VE", "no #VE for violations here, if EPT-violation #VE is 1; else ignored"),
)
_PAGE = bit(7, "PS", "1: this entry maps a page")
_NOT_PAGE = bit(7, "PS", "0: this entry references a table")


def _table_entry(name: str, low_reserved: tuple[Field, ...], references: str) -> Layout:
    """Declare an EPT entry that references the next table."""
    return Layout(
        name,
        64,
        "SDM 3C §28.3.2",
        (
            *_RIGHTS,
            *low_reserved,
            _ACCESSED,
            ignored(9),
            _USER_EXECUTE,
            ignored(11),
            address(12, 51, meaning=f"physical address of the EPT {references}"),
            ignored(52, 63),
        ),
    )


EPT_PML5E = _table_entry("EPT_PML5E", (reserved(3, 7),), "PML4 table")
EPT_PML4E = _table_entry("EPT_PML4E", (reserved(3, 7),), "page-directory-pointer table")
EPT_PDPTE = _table_entry("EPT_PDPTE", (reserved(3, 6), _NOT_PAGE), "page directory")
EPT_PDE = _table_entry("EPT_PDE", (reserved(3, 6), _NOT_PAGE), "page table")

EPT_PDPTE_1G = Layout(
    "EPT_PDPTE_1G",
    64,
    "SDM 3C §28.3.2",
    (
        *_LEAF,
        _PAGE,
        reserved(12, 29),
        address(30, 51, meaning="physical address of the 1 GiB page"),
        ignored(61),
    ),
)
EPT_PDE_2M = Layout(
    "EPT_PDE_2M",
    64,
    "SDM 3C §28.3.2",
    (
        *_LEAF,
        _PAGE,
        reserved(12, 20),
        address(21, 51, meaning="physical address of the 2 MiB page"),
        ignored(61),
    ),
)
EPT_PTE = Layout(
    "EPT_PTE",
    64,
    "SDM 3C §28.3.2",
    (
        *_LEAF,
        ignored(7),
        address(12, 51, meaning="physical address of the 4 KiB page"),
        bit(61, "SPP", "sub-page write permissions, if that control is 1; else ignored"),
    ),
)

EPTP = Layout(
    "EPTP",
    64,
    "SDM 3C §24.6.11",
    (
        bits(0, 2, "MT", "memory type of accesses to the EPT structures: 0 UC or 6 WB"),
        bits(3, 5, "walk_length", "levels of the EPT walk minus one: 3, or 4 with PML5"),
        bit(6, "AD", "enable accessed and dirty flags for EPT"),
        bit(7, "SSS", "enforce access rights for supervisor shadow-stack pages"),
        reserved(8, 11),
        address(12, 51, meaning="physical address of the EPT PML4 or PML5 table; its bits are EP4TA"),
        reserved(52, 63),
    ),
)

#: Levels 4 to 2 of the sub-page-permission table; level 1 is a vector of 32 write rights in the even bits.
SPPT_ENTRY = Layout(
    "SPPT_ENTRY",
    64,
    "SDM 3C §28.3.4.2",
    (
        bit(0, "V", "valid"),
        reserved(1, 11),
        address(12, 51, meaning="physical address of the next SPPT table"),
        reserved(52, 63),
    ),
)

_BY_LEVEL = {
    (5, False): EPT_PML5E,
    (4, False): EPT_PML4E,
    (3, False): EPT_PDPTE,
    (3, True): EPT_PDPTE_1G,
    (2, False): EPT_PDE,
    (2, True): EPT_PDE_2M,
    (1, True): EPT_PTE,
}
_LEAVES = frozenset(layout for (_, leaf), layout in _BY_LEVEL.items() if leaf)


def ept_layout(level: int, leaf: bool) -> Layout:
    """Return the layout of an EPT entry at `level` (5 to 1) that maps a page (`leaf`) or references a table.

    SDM 3C §28.3.2. Raises MisuseError for a level that does not exist, a leaf above level 3 and a table at
    level 1.
    """
    found = _BY_LEVEL.get((level, bool(leaf)))
    if found is None:
        kind = "page" if leaf else "table"
        raise MisuseError(
            f"EPT level {level:#x} has no entry for a {kind}: "
            "pages are at levels 0x1 to 0x3, tables at 0x2 to 0x5"
        )
    return found


def ept_misconfiguration(entry: int, layout: Layout, *, forbidden: int = 0, execute_only: bool = True) -> str:
    """Return the rule that a present `entry` of form `layout` breaks, or nothing (SDM 3C §28.3.3.1).

    `forbidden` are bits that this processor reserves besides, `execute_only` is its capability of that name.
    """
    if not entry & EPT_PTE.mask("R"):
        if entry & EPT_PTE.mask("W"):
            return "EPT write without read"
        if not execute_only:
            return "EPT execute-only"
    if entry & (layout.reserved_mask | forbidden):
        return "EPT reserved bit"
    if layout in _LEAVES and layout.get(entry, "MT") not in set(EPT_MEMORY_TYPES):
        return "EPT memory type"
    return ""


def ep4ta(eptp: int) -> int:
    """Return EP4TA, bits 51:12 of `eptp` as a 40-bit number: the tag of guest-physical and combined mappings.

    SDM 3C §28.4.1. Memory type, walk length and the enable bits are not part of it: two EPTPs that differ
    only there share cached mappings. A frame number, not a byte address; the address is ``EPTP.get(eptp,
    "addr")``.
    """
    return EPTP.get(eptp, "addr") >> PAGE_SHIFT
