"""Guest paging-structure entries of 4-level and 5-level paging (SDM 3A §4.5).

Bits whose meaning depends on the processor are declared in their widest form: addresses reach bit 51, and the
caller adds :func:`physical_reserved` for 51:MAXPHYADDR, bit 63 when EFER.NXE = 0, and PS in a PDPTE when the
processor has no 1 GiB pages. CR4.PKE and HLAT change no reserved bit. The entries of the two older modes are in
``legacy``, levels and indices of all modes in ``modes``.
"""

from quire.arch.layout import Field, Layout, address, bit, bits, ignored, reserved
from quire.errors import MisuseError

__all__ = [
    "INDEX_BITS",
    "PAGES",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "PDE",
    "PDE_2M",
    "PDPTE",
    "PDPTE_1G",
    "PML4E",
    "PML5E",
    "PTE",
    "physical_reserved",
]

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT  #: bytes
#: Page sizes of 4-level paging in bytes, by the names that people use.
PAGES = {"4K": PAGE_SIZE, "2M": PAGE_SIZE << 9, "1G": PAGE_SIZE << 18}
INDEX_BITS = 9  #: of the linear address that choose an entry at each level

# The architecture's limit on MAXPHYADDR, SDM 3A §4.1.4; below 32 bits there is no 64-bit processor.
_ADDRESS_TOP = 52
_ADDRESS_LEAST = 32

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

PML5E = _table_entry("PML5E", reserved(7), "PML4 table")
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


def physical_reserved(maxphyaddr: int) -> int:
    """Return the mask of address bits 51:`maxphyaddr`, which are reserved in any 8-byte entry, guest or EPT.

    SDM 3A §4.5 and SDM 3C §28.3.2. `maxphyaddr` is in bits. Raises MisuseError unless it is 32 to 52.
    """
    if not _ADDRESS_LEAST <= maxphyaddr <= _ADDRESS_TOP:
        raise MisuseError(
            f"MAXPHYADDR {maxphyaddr:#x} is outside {_ADDRESS_LEAST:#x} to {_ADDRESS_TOP:#x}: "
            "give CPUID.80000008H:EAX[7:0]"
        )
    return (1 << _ADDRESS_TOP) - (1 << maxphyaddr)
