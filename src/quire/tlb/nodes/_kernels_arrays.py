"""Walks by node for callers that have arrays; among themselves kernels pass pointers."""

from numba import types

from quire.kernels import kernel
from quire.paging._kernels_ept import pointer
from quire.tlb.nodes import _kernels as by_pointer

ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]


@kernel(
    types.int64(
        *(ARRAY, ARRAY, types.uint64, types.uint64, ARRAY, ARRAY, ARRAY, SHAPE_ARRAY, ARRAY),
        *(types.boolean, types.uint8[::1], ARRAY, ARRAY),
    )
)
def walk_noting_nodes(
    memory, context, gva, access, result, entries, state, shapes, path, caches, nodes, counts, lines
):  # fmt: skip
    """See :func:`quire.tlb.nodes._kernels.walk_noting_nodes`."""
    return by_pointer.walk_noting_nodes(
        *(pointer(memory), pointer(context), gva, access, pointer(result)),
        *(pointer(entries), pointer(state), pointer(shapes), pointer(path)),
        *(caches, pointer(nodes), pointer(counts), pointer(lines)),
    )


@kernel(types.boolean(ARRAY, types.uint64))
def reaches_memory(lines, hpa):
    """See :func:`quire.tlb.nodes._kernels.reaches_memory`."""
    return by_pointer.reaches_memory(pointer(lines), hpa)
