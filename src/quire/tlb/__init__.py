"""TLBs and walk caches with the manual's rules: geometry from profiles, tags, and one invalidation table.

Contract: what an operation drops is one row of :class:`Operation`, and :meth:`Tlb.invalidate` is the only way to
drop. Entries carry the rights and dirty state that the walk found; the page of an entry is the smaller of the guest's
and EPT's (a large guest page over small EPT pages is splintered), or a piece of it where no TLB takes the whole.
"""

from quire.tlb.contents import SetUse, TlbTable
from quire.tlb.invalidation import MappingClass, Operand, Operation, Rule, Structures
from quire.tlb.layout import TAG, TRANSLATION, Kind, Shape, Shapes, TlbState
from quire.tlb.spaces import AddressSpace, AddressSpaces, Extent
from quire.tlb.structure import Structure
from quire.tlb.tlb import Tlb, TlbEntry, TlbOptions

__all__ = [
    "TAG",
    "TRANSLATION",
    "AddressSpace",
    "AddressSpaces",
    "Extent",
    "Kind",
    "MappingClass",
    "Operand",
    "Operation",
    "Rule",
    "SetUse",
    "Shape",
    "Shapes",
    "Structure",
    "Structures",
    "Tlb",
    "TlbEntry",
    "TlbOptions",
    "TlbState",
    "TlbTable",
]
