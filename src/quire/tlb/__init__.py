"""TLBs: split L1 and unified L2 for mixed page sizes, tagged VPID, PCID, EP4TA, with one invalidation table.

Contract: what an operation drops is one row of :class:`Operation`, and :meth:`Tlb.invalidate` is the only way to
drop. Entries carry the rights and dirty state that the walk found; the page of an entry is the smaller of the
guest's and EPT's (a large guest page over small EPT pages is splintered).
"""

from quire.tlb.invalidation import Operation, Rule
from quire.tlb.layout import TAG, TRANSLATION, Role, Shape, TlbState
from quire.tlb.spaces import AddressSpace, AddressSpaces
from quire.tlb.tlb import Tlb, TlbEntry

__all__ = [
    "TAG",
    "TRANSLATION",
    "AddressSpace",
    "AddressSpaces",
    "Operation",
    "Role",
    "Rule",
    "Shape",
    "Tlb",
    "TlbEntry",
    "TlbState",
]
