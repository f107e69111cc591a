"""Entries of 32-bit paging and PAE paging (SDM 3A §4.3 to §4.4).

32-bit entries have 4 bytes; PS in a PDE counts only when CR4.PSE = 1. With PSE-36 a 4 MiB page lies anywhere in 40
address bits: bits 20:13 of its PDE are address bits 39:32, and :func:`pse36_reserved` says which of them, and of
bit 21, a processor reserves. PAE entries have 8 bytes; above the address everything but XD is reserved. A PDPTE is
checked when it is loaded into its register, not when it is used.
"""

from quire.arch.layout import Field, Layout, address, bit, bits, ignored, reserved

__all__ = [
    "PAE_PDE",
    "PAE_PDE_2M",
    "PAE_PDPTE",
    "PAE_PTE",
    "PDE_4M",
    "PDE_32",
    "PTE_32",
    "pse36_reserved",
]

_RIGHTS: tuple[Field, ...] = (
    bit(0, "P", "present"),
    bit(1, "RW", "writes allowed"),
    bit(2, "US", "user-mode accesses allowed"),
    bit(3, "PWT", "page-level write-through: memory type of what this entry references"),
    bit(4, "PCD", "page-level cache disable: memory type of what this entry references"),
    bit(5, "A", "accessed: used by a translation"),
)
_LEAF: tuple[Field, ...] = (
    *_RIGHTS,
    bit(6, "D", "dirty: written through"),
    bit(8, "G", "global: survives MOV to CR3, if CR4.PGE = 1"),
    ignored(9, 11),
)
_PAT = bit(7, "PAT", "high bit of the PAT index")
_LARGE_PAT = bit(12, "PAT", "high bit of the PAT index")
_PAGE = bit(7, "PS", "page size: 1, this entry maps a page")
_XD = bit(63, "XD", "execute disable, if EFER.NXE = 1; else reserved")

PDE_32 = Layout(
    "PDE_32",
    32,
    "SDM 3A §4.3",
    (*_RIGHTS, ignored(6, 11), address(12, 31, meaning="physical address of the page table")),
)
PDE_4M = Layout(
    "PDE_4M",
    32,
    "SDM 3A §4.3",
    (
        *_LEAF,
        _PAGE,
        _LARGE_PAT,
        bits(13, 20, "addr_high", "bits 39:32 of the physical address, with PSE-36; else reserved"),
        reserved(21),
        address(22, 31, meaning="bits 31:22 of the physical address of the 4 MiB page"),
    ),
)
PTE_32 = Layout(
    "PTE_32",
    32,
    "SDM 3A §4.3",
    (*_LEAF, _PAT, address(12, 31, meaning="physical address of the 4 KiB page")),
)

PAE_PDPTE = Layout(
    "PAE_PDPTE",
    64,
    "SDM 3A §4.4.1",
    (
        bit(0, "P", "present"),
        reserved(1, 2),
        bit(3, "PWT", "page-level write-through of the page directory"),
        bit(4, "PCD", "page-level cache disable of the page directory"),
        reserved(5, 8),
        ignored(9, 11),
        address(12, 51, meaning="physical address of the page directory"),
        reserved(52, 63),
    ),
)
PAE_PDE = Layout(
    "PAE_PDE",
    64,
    "SDM 3A §4.4.2",
    (
        *_RIGHTS,
        ignored(6),
        bit(7, "PS", "page size: 0, this entry references a table"),
        ignored(8, 11),
        address(12, 51, meaning="physical address of the page table"),
        reserved(52, 62),
        _XD,
    ),
)
PAE_PDE_2M = Layout(
    "PAE_PDE_2M",
    64,
    "SDM 3A §4.4.2",
    (
        *_LEAF,
        _PAGE,
        _LARGE_PAT,
        reserved(13, 20),
        address(21, 51, meaning="physical address of the 2 MiB page"),
        reserved(52, 62),
        _XD,
    ),
)
PAE_PTE = Layout(
    "PAE_PTE",
    64,
    "SDM 3A §4.4.2",
    (
        *_LEAF,
        _PAT,
        address(12, 51, meaning="physical address of the 4 KiB page"),
        reserved(52, 62),
        _XD,
    ),
)

_PSE36_TOP = 40


def pse36_reserved(maxphyaddr: int, pse36: bool) -> int:
    """Return the bits of a 4 MiB PDE that a processor reserves: 21:(M - 19), M the lesser of 40 and MAXPHYADDR.

    SDM 3A §4.3, table 4-4. Without PSE-36 they are 21:13. `maxphyaddr` is in bits, at least 32.
    """
    top = min(_PSE36_TOP, maxphyaddr) if pse36 else 32
    return (1 << 22) - (1 << (top - 19))
