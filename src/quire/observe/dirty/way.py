"""The ways to log writes, and what each makes of a leaf of the memory map.

A leaf that waits for its first write is *armed*, one that has been written is *soiled*. By write protection an armed
leaf lacks the right to write that it had, which a bit of its own remembers that processors ignore (bit 52, SDM 3C
§28.3.2); in the other ways its dirty flag is 0.
"""

from enum import StrEnum

import numpy as np

from quire.arch import EPT_PTE
from quire.paging.table_tree import Row

__all__ = ["DirtyWay"]

_W, _D = EPT_PTE.mask("W"), EPT_PTE.mask("D")
_FORBIDDEN = 1 << 52


class DirtyWay(StrEnum):
    """How first writes are noticed."""

    WRITE_PROTECT = "write-protect"  #: the first write to a page is an EPT violation, or a #PF under shadow
    DIRTY_BITS = "dirty-bits"  #: the processor sets D in EPT; a harvest scans them (SDM 3C §28.3.5)
    PML = "pml"  #: the processor logs the address when it sets D (SDM 3C §28.3.6)

    @property
    def flag(self) -> int:
        """The bit that a soiled leaf has and an armed one has not."""
        return _W if self is DirtyWay.WRITE_PROTECT else _D

    @property
    def ordered(self) -> bool:
        """Whether pages are noticed in the order of their first writes."""
        return self is not DirtyWay.DIRTY_BITS

    def arm(self, entries: Row) -> Row:
        """Return leaves as they wait for a write."""
        armed: Row
        if self is not DirtyWay.WRITE_PROTECT:
            armed = entries & ~np.uint64(_D)
        else:
            writable = entries & np.uint64(_W) != 0
            armed = np.where(writable, entries & ~np.uint64(_W) | np.uint64(_FORBIDDEN), entries)
        return armed

    def soil(self, entry: int) -> int:
        """Return a leaf as the first write leaves it; the same if it was written before, or may not be written."""
        if self is DirtyWay.WRITE_PROTECT:
            return entry | _W if entry & _FORBIDDEN else entry
        return entry | _D

    def is_soiled(self, entry: int) -> bool:
        """Return whether a leaf has been written since it was armed; one that the log never armed has not."""
        both = self.flag | (_FORBIDDEN if self is DirtyWay.WRITE_PROTECT else 0)
        return entry & both == both

    def release(self, entries: Row) -> Row:
        """Return leaves as they are when nobody logs."""
        if self is not DirtyWay.WRITE_PROTECT:
            return entries
        forbidden = entries & np.uint64(_FORBIDDEN) != 0
        released: Row = np.where(forbidden, entries & ~np.uint64(_FORBIDDEN) | np.uint64(_W), entries)
        return released
