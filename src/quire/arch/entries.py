"""Guest paging-structure entries of 4-level paging, and the geometry of its four levels (SDM 3A §4.5).

Models 64-bit entries of 4-level paging in their architectural form. Does not model 32-bit and PAE entries,
nor the rights of a walk (the paging room combines them). Bits whose meaning depends on the processor are
declared in their widest form: addresses reach bit 51, and the caller adds :func:`physical_reserved` for
51:MAXPHYADDR, bit 63 when EFER.NXE = 0, and PS in a PDPTE when the processor has no 1 GiB pages. CR4.PKE and
HLAT change no reserved bit.

Levels are numbered as the walk counts down: 4 = PML4, 3 = PDPT, 2 = page directory, 1 = page table. Fails
with MisuseError for a level, leaf or width that does not exist.
"""

from quire.arch.layout import Field, Layout, address, bit, bits, ignored, reserved
from quire.errors import MisuseError

__all__ = [
    "INDEX_BITS",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "PDE",
    "PDE_2M",
    "PDPTE",
    "PDPTE_1G",
    "PML4E",
    "PTE",
    "entry_layout",
    "gva_index",
    "is_canonical",
    "level_shift",
    "page_size",
    "physical_reserved",
]

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  #: bytes
INDEX_BITS = 9  #: of the linear address that choose an entry at each level

# The architecture's limit on MAXPHYADDR, SDM 3A §4.1.4; below 32 bits there is no 64-bit processor.
_ADDRESS_TOP = 52
_ADDRESS_LEAST = 32

_LEVELS = (1, 2, 3, 4)

# What every present entry begins with.
_RIGHTS: tuple[Field, ...] = (
    bit(0, "P", "present"),
    bit(1, "RW", "writes allowed"),
    bit(2, "US", "user-mode accesses allowed"),
    bit(3, "PWT", "page-level write-through: memory type of what this entry references"),
    bit(4, "PCD", "page-level cache disable: memory type of what this entry references"),
    bit(5, "A", "accessed: used by a translation"),
)
_XD = bit(63, "XD", "execute disable, if EFER.NXE = 1; else reserved")

# What every entry that maps a page adds, besides its address and its PAT bit.
_LEAF: tuple[Field, ...] = (
    *_RIGHTS,
    bit(6, "D", "dirty: written through"),
    bit(8, "G", "global: survives MOV to CR3, if CR4.PGE = 1"),
    ignored(9, 11),
    ignored(52, 58),
    bits(59, 62, "pkey", "protection key, if CR4.PKE or CR4.PKS = 1; else ignored"),
    _XD,
)
_PAGE = bit(7, "PS", "page size: 1, this entry maps a page")
_LARGE_PAT = bit(12, "PAT", "high bit of the PAT index")


def _table_entry(name: str, bit7: Field, references: str) -> Layout:
    """Declare an entry that references the next table."""
    return Layout(
        name,
        64,
        "SDM 3A §4.5",
        (
            *_RIGHTS,
            ignored(6),
            bit7,
            ignored(8, 11),
            address(12, 51, meaning=f"physical address of the {references}"),
            ignored(52, 62),
            _XD,
        ),
    )


_NOT_PAGE = bit(7, "PS", "page size: 0, this entry references a table")

PML4E = _table_entry("PML4E", reserved(7), "page-directory-pointer table")
PDPTE = _table_entry("PDPTE", _NOT_PAGE, "page directory")
PDE = _table_entry("PDE", _NOT_PAGE, "page table")

PDPTE_1G = Layout(
    "PDPTE_1G",
    64,
    "SDM 3A §4.5",
    (
        *_LEAF,
        _PAGE,
        _LARGE_PAT,
        reserved(13, 29),
        address(30, 51, meaning="physical address of the 1 GiB page"),
    ),
)
PDE_2M = Layout(
    "PDE_2M",
    64,
    "SDM 3A §4.5",
    (
        *_LEAF,
        _PAGE,
        _LARGE_PAT,
        reserved(13, 20),
        address(21, 51, meaning="physical address of the 2 MiB page"),
    ),
)
PTE = Layout(
    "PTE",
    64,
    "SDM 3A §4.5",
    (
        *_LEAF,
        bit(7, "PAT", "high bit of the PAT index"),
        address(12, 51, meaning="physical address of the 4 KiB page"),
    ),
)

_BY_LEVEL = {
    (4, False): PML4E,
    (3, False): PDPTE,
    (3, True): PDPTE_1G,
    (2, False): PDE,
    (2, True): PDE_2M,
    (1, True): PTE,
}


def entry_layout(level: int, leaf: bool) -> Layout:
    """Return the layout of a guest entry at `level` (4 to 1) that maps a page (`leaf`) or references a table.

    SDM 3A §4.5. Raises MisuseError for a level that does not exist, a leaf at level 4 and a table at level 1.
    """
    _check_level(level)
    found = _BY_LEVEL.get((level, bool(leaf)))
    if found is None:
        raise MisuseError(_no_such_entry(level, leaf))
    return found


def _no_such_entry(level: int, leaf: bool) -> str:
    if leaf:
        return f"Level {level:#x} has no entry that maps a page: pages are mapped at levels 0x1 to 0x3"
    return f"Level {level:#x} has no entry that references a table: its entries map pages, pass leaf=True"


def _check_level(level: int) -> None:
    if level not in _LEVELS:
        raise MisuseError(f"Level {level:#x} does not exist in 4-level paging: give 0x1 (PT) to 0x4 (PML4)")


def level_shift(level: int) -> int:
    """Return the lowest linear-address bit that indexes a table of `level`: 39, 30, 21, 12 for 4 to 1.

    SDM 3A §4.5. Raises MisuseError for a level outside 1 to 4.
    """
    _check_level(level)
    return PAGE_SHIFT + INDEX_BITS * (level - 1)


def page_size(level: int) -> int:
    """Return the bytes of the page that a leaf at `level` maps: 4 KiB, 2 MiB, 1 GiB for 1 to 3.

    SDM 3A §4.5. Raises MisuseError for any other level: level 4 maps no page.
    """
    _check_level(level)
    if (level, True) not in _BY_LEVEL:
        raise MisuseError(_no_such_entry(level, leaf=True))
    return 1 << level_shift(level)


def gva_index(gva: int, level: int) -> int:
    """Return the index (0 to 511) of the entry that `gva` selects in a table of `level`.

    SDM 3A §4.5. Works as well for a guest-physical address in EPT. Raises MisuseError for a level outside 1
    to 4.
    """
    return gva >> level_shift(level) & (1 << INDEX_BITS) - 1


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


def physical_reserved(maxphyaddr: int) -> int:
    """Return the mask of address bits 51:`maxphyaddr`, which are reserved in any entry, guest or EPT.

    SDM 3A §4.5 and SDM 3C §28.3.2. `maxphyaddr` is in bits. Raises MisuseError unless it is 32 to 52.
    """
    if not _ADDRESS_LEAST <= maxphyaddr <= _ADDRESS_TOP:
        raise MisuseError(
            f"MAXPHYADDR {maxphyaddr:#x} is outside {_ADDRESS_LEAST:#x} to {_ADDRESS_TOP:#x}: "
            "give CPUID.80000008H:EAX[7:0]"
        )
    return (1 << _ADDRESS_TOP) - (1 << maxphyaddr)
