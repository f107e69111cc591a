"""The page walker with its caches: which references of a walk memory sees, and what the walk leaves in TLBs.

Contract: the walk itself is the paging room's, and its result does not depend on any cache; the caches say which of its
references were not made. An entry of a linear cache holds the host-physical address of the next table (SDM 3C
§28.4.1: combined paging-structure caches), so that what it skips is skipped in both dimensions. A nested TLB, or the
guest-physical caches, shorten the translation of a guest-physical address. Walks that end in an EPT violation and
those of 32-bit and PAE paging are accounted whole.
"""

from quire.tlb.walker.path import PATH_WORDS, Path
from quire.tlb.walker.walker import Walker

__all__ = ["PATH_WORDS", "Path", "Walker"]
