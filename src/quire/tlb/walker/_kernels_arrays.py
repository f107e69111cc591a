"""Walks behind caches for callers that have arrays; among themselves kernels pass pointers."""

from quire.kernels import kernel, types
from quire.paging._kernels_ept import pointer
from quire.tlb.walker import _kernels as by_pointer
from quire.tlb.walker._kernels import WALKER
from quire.tlb.walker.walker import Walker

ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]
WALKER_OF_ARRAYS = types.NamedTuple((ARRAY, ARRAY, ARRAY, ARRAY, ARRAY, ARRAY, SHAPE_ARRAY, ARRAY), Walker)


@kernel(WALKER(WALKER_OF_ARRAYS), inline="always")
def pointers(walker):
    """Return the record of pointers to the arrays of `walker`."""
    return Walker(
        pointer(walker.memory),
        pointer(walker.context),
        pointer(walker.memo),
        pointer(walker.result),
        pointer(walker.entries),
        pointer(walker.state),
        pointer(walker.shapes),
        pointer(walker.path),
    )


@kernel(types.uint64(ARRAY, ARRAY, SHAPE_ARRAY, ARRAY, types.uint64))
def account(entries, state, shapes, path, gva):
    """See :func:`quire.tlb.walker._kernels.account`."""
    return by_pointer.account(pointer(entries), pointer(state), pointer(shapes), pointer(path), gva)


@kernel(types.int64(WALKER_OF_ARRAYS, types.uint64, types.uint64))
def walk_behind_caches(walker, gva, access):
    """See :func:`quire.tlb.walker._kernels.walk_behind_caches`."""
    return by_pointer.walk_behind_caches(pointers(walker), gva, access)
