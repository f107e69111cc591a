"""The two entry formats as data: what a guest entry and an EPT entry say for the same mapping.

A :class:`PagingFormat` turns rights into entry bits and back, so that one set of table operations serves both
dimensions. Fails with MisuseError for a level that cannot hold a page, and for a memory type that a leaf cannot have.
"""

from dataclasses import dataclass

from quire.arch import EPT_MEMORY_TYPES, EPT_PTE, PDE, PTE, MemoryType, page_size
from quire.errors import MisuseError
from quire.paging.context import Dimension, Rights

__all__ = ["EPT_FORMAT", "GUEST_FORMAT", "PagingFormat", "level_of"]

_ADDRESS = PTE.mask("addr")
_PS = PDE.mask("PS")
_US, _RW, _XD = PTE.mask("US"), PTE.mask("RW"), PTE.mask("XD")
_LEVELS = {page_size(level): level for level in (1, 2, 3)}
_BY_NUMBER = tuple(Rights(n) for n in range(8))
_WB = MemoryType.WB
_RESTRICTIVE_PER_LEAF = PTE.mask("addr") | _PS


def level_of(size: int) -> int:
    """Return the level whose leaf maps `size` bytes: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB."""
    level = _LEVELS.get(size)
    if level is not None:
        return level
    raise MisuseError(f"No page has {size:#x} bytes: give 0x1000, 0x200000 or 0x40000000")


@dataclass(frozen=True, slots=True)
class PagingFormat:
    """How one dimension writes its entries. `table_bits` go into every entry that references a table."""

    dimension: Dimension
    present: int
    table_bits: int
    accessed: int
    dirty: int
    leaf_bits: tuple[
        int, ...
    ]  #: by Rights: what a leaf of a user page has besides address and size, write-back
    types: tuple[int | None, ...]  #: by MemoryType: the bits of a leaf that say so, None if it cannot have it
    type_bits: int  #: all bits of a leaf's memory type

    def table_entry(self, address: int) -> int:
        """Return the entry that references the table at `address`, restricting nothing: leaves decide."""
        return address | self.table_bits

    def leaf_entry(
        self,
        address: int,
        level: int,
        rights: Rights,
        *,
        user: bool = True,
        memory_type: MemoryType = _WB,
    ) -> int:
        """Return the entry that maps the page at `address` at `level` with `rights`.

        A leaf of EPT has the memory type in bits 5:3 (SDM 3C §28.3.7.2), one of the guest only write-back here, its
        type by the PAT: MisuseError for a type that a leaf cannot have.
        """
        entry = address | self.leaf_bits[rights] | (_PS if level > 1 else 0)
        if memory_type is not _WB:
            entry = entry & ~self.type_bits | self.type_entry(memory_type)
        return entry if user or self.dimension is Dimension.HOST else entry & ~_US

    def type_entry(self, memory_type: MemoryType) -> int:
        """Return the bits of a leaf that say `memory_type`. Raises MisuseError for one that it cannot have."""
        bits = self.types[memory_type]
        if bits is None:
            names = " or ".join(MemoryType(n).name for n, bits in enumerate(self.types) if bits is not None)
            whose = "EPT" if self.dimension is Dimension.HOST else "the guest's tables"
            raise MisuseError(f"No leaf of {whose} can say {MemoryType(memory_type).name}: give {names}")
        return bits

    def is_present(self, entry: int) -> bool:
        """Return whether the entry maps or references anything."""
        return bool(entry & self.present)

    def is_leaf(self, entry: int, level: int) -> bool:
        """Return whether a present entry of `level` maps a page."""
        return level == 1 or (level < 4 and bool(entry & _PS))

    def address(self, entry: int, level: int) -> int:
        """Return the address in a present entry: of the page if it is a leaf of `level`, else of the table."""
        mask = _ADDRESS
        if self.is_leaf(entry, level):
            mask &= ~(page_size(level) - 1)
        return entry & mask

    def rights(self, entry: int) -> Rights:
        """Return what a present leaf allows (user-mode rights in the guest's format)."""
        if self.dimension is Dimension.HOST:
            return _BY_NUMBER[entry & 7]
        return _BY_NUMBER[1 | (2 if entry & _RW else 0) | (0 if entry & _XD else 4)]

    def protected(self, entry: int, level: int, rights: Rights) -> int:
        """Return leaf `entry` of `level` with other `rights`; its address, memory type and flags are kept."""
        kept = entry & (self.type_bits | self.accessed | self.dirty)
        bits = self.leaf_bits[rights] & ~self.type_bits
        return self.address(entry, level) | kept | bits | (_PS if level > 1 else 0)

    def resized(self, entry: int, address: int, level: int) -> int:
        """Return leaf `entry` with its attributes kept, moved to `address` at another `level`."""
        kept = entry & ~_RESTRICTIVE_PER_LEAF
        return kept | address | (_PS if level > 1 else 0)


def _guest_leaf(rights: Rights) -> int:
    return PTE.encode(P=bool(rights), RW=Rights.WRITE in rights, US=1, XD=Rights.EXECUTE not in rights)


def _ept_leaf(rights: Rights) -> int:
    return int(rights) | EPT_PTE.encode(MT=_WB)


GUEST_FORMAT = PagingFormat(
    dimension=Dimension.GUEST,
    present=PTE.mask("P"),
    table_bits=PTE.mask("P", "RW", "US"),
    accessed=PTE.mask("A"),
    dirty=PTE.mask("D"),
    leaf_bits=tuple(_guest_leaf(Rights(n)) for n in range(8)),
    types=tuple(0 if n == _WB else None for n in range(8)),
    type_bits=0,
)
EPT_FORMAT = PagingFormat(
    dimension=Dimension.HOST,
    present=EPT_PTE.mask("R", "W", "X"),
    table_bits=EPT_PTE.mask("R", "W", "X"),
    accessed=EPT_PTE.mask("A"),
    dirty=EPT_PTE.mask("D"),
    leaf_bits=tuple(_ept_leaf(Rights(n)) for n in range(8)),
    types=tuple(EPT_PTE.encode(MT=n) if n in set(EPT_MEMORY_TYPES) else None for n in range(8)),
    type_bits=EPT_PTE.mask("MT"),
)
