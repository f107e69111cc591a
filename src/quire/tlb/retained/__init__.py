"""All that the manual lets one processor keep until it is told otherwise: no geometry, no eviction.

Contract: what a walk may leave in TLBs and paging-structure caches is in :class:`Retained`, and one row of
:class:`quire.tlb.Operation` drops what it names and nothing else. So its mappings are the set of those that a
processor is permitted to use: a TLB with a geometry holds a subset, a stale use is a use of one of them.
"""

from quire.tlb.retained.kept import Entry, Kept, KeptHostPage, KeptHostTable, KeptPage, KeptTable, Roots
from quire.tlb.retained.retained import Retained
from quire.tlb.retained.walk import RetainedWalk

__all__ = [
    "Entry",
    "Kept",
    "KeptHostPage",
    "KeptHostTable",
    "KeptPage",
    "KeptTable",
    "Retained",
    "RetainedWalk",
    "Roots",
]
