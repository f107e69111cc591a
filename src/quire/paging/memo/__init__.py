"""A memo of walks: where page tables lie, so that a walk reads two entries and accounts the rest.

Contract: a walk by the memo is the whole walk, in result, flags and counts (but for the list of references), as long
as what lies above the leaf entries of a version does not change; who changes it makes a new version. The walk itself
is in :mod:`quire.paging._kernels`, and there is no other.
"""

from quire.paging.memo._kernels import walk_with_memo

__all__ = ["walk_with_memo"]
