"""Memory types: what a processor may do with an access, from the PAT, and from EPT and the PAT together.

Models the choice, not its effects. The MTRRs have no part in it under EPT; without EPT Quire takes them as
write-back everywhere, so that the PAT alone decides. Fails with MisuseError for a PAT index outside 0 to 7.
"""

from enum import IntEnum

from quire.errors import MisuseError

__all__ = ["PAT_RESET", "MemoryType", "combined_memory_type", "pat_index", "pat_memory_type"]


class MemoryType(IntEnum):
    """Memory types by their encoding in EPT entries, EPTP and IA32_PAT (SDM 3A §11.12.2).

    2 and 3 are reserved everywhere. UC- exists in IA32_PAT only, never in an EPT entry.
    """

    UC = 0
    WC = 1
    WT = 4
    WP = 5
    WB = 6
    UC_MINUS = 7


#: IA32_PAT after reset: WB, WT, UC-, UC, twice (SDM 3A §11.12.4).
PAT_RESET = 0x0007040600070406

_T = MemoryType
_PAT_ORDER = (_T.UC, _T.UC_MINUS, _T.WC, _T.WT, _T.WB, _T.WP)
# Rows: the memory type of the EPT entry, in the place of the MTRRs' of table 11-7; columns as _PAT_ORDER.
_COMBINED = {
    _T.UC: (_T.UC, _T.UC, _T.WC, _T.UC, _T.UC, _T.UC),
    _T.WC: (_T.UC, _T.WC, _T.WC, _T.UC, _T.WC, _T.UC),
    _T.WT: (_T.UC, _T.UC, _T.WC, _T.WT, _T.WT, _T.WP),
    _T.WB: (_T.UC, _T.UC, _T.WC, _T.WT, _T.WB, _T.WP),
    _T.WP: (_T.UC, _T.WC, _T.WC, _T.WT, _T.WP, _T.WP),
}


def pat_index(pwt: int, pcd: int, pat: int) -> int:
    """Return the PAT index that an entry's PWT, PCD and PAT bits choose, 0 to 7. SDM 3A §4.9.2."""
    return pwt | pcd << 1 | pat << 2


def pat_memory_type(ia32_pat: int, index: int) -> MemoryType:
    """Return entry `index` of `ia32_pat`; a reserved encoding, which WRMSR refuses, reads as UC. SDM 3A §11.12.2."""
    if not 0 <= index <= 7:
        raise MisuseError(f"PAT index {index:#x} does not exist: give 0x0 to 0x7, see pat_index()")
    encoded = ia32_pat >> (8 * index) & 0xFF
    return MemoryType(encoded) if encoded in set(MemoryType) else MemoryType.UC


def combined_memory_type(ept: MemoryType, ignore_pat: bool, pat: MemoryType) -> MemoryType:
    """Return the type of a guest access under EPT: the EPT leaf's alone if it says so, else both combined.

    SDM 3C §28.3.7.2 and SDM 3A §11.5.2.2, table 11-7. Raises MisuseError for a type that no EPT entry holds.
    """
    if ept not in _COMBINED:
        raise MisuseError(
            f"An EPT entry cannot hold memory type {ept!r}: the walk stops at it, misconfigured"
        )
    return ept if ignore_pat else _COMBINED[ept][_PAT_ORDER.index(pat)]
