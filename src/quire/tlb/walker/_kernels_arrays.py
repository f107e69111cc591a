"""Walks behind caches for callers that have arrays; among themselves kernels pass pointers."""

from numba import types

from quire.kernels import kernel
from quire.paging._kernels_ept import pointer
from quire.tlb.walker import _kernels as by_pointer

ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]


@kernel(types.uint64(ARRAY, ARRAY, SHAPE_ARRAY, ARRAY, types.uint64))
def account(entries, state, shapes, path, gva):
    """See :func:`quire.tlb.walker._kernels.account`."""
    return by_pointer.account(pointer(entries), pointer(state), pointer(shapes), pointer(path), gva)


@kernel(types.int64(ARRAY, ARRAY, ARRAY, types.uint64, types.uint64, ARRAY, ARRAY, ARRAY, SHAPE_ARRAY, ARRAY))
def walk_behind_caches(memory, context, memo, gva, access, result, entries, state, shapes, path):
    """See :func:`quire.tlb.walker._kernels.walk_behind_caches`."""
    return by_pointer.walk_behind_caches(
        *(pointer(memory), pointer(context), pointer(memo), gva, access, pointer(result)),
        *(pointer(entries), pointer(state), pointer(shapes), pointer(path)),
    )
