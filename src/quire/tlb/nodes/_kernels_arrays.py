"""Walks by node for callers that have arrays; among themselves kernels pass pointers."""

from quire.kernels import kernel, types
from quire.paging._kernels_ept import pointer
from quire.tlb.nodes import _kernels as by_pointer
from quire.tlb.nodes.references import NodeCounter
from quire.tlb.walker._kernels_arrays import ARRAY, WALKER_OF_ARRAYS, pointers

COUNTER_OF_ARRAYS = types.NamedTuple((types.uint8[::1], ARRAY, ARRAY), NodeCounter)


@kernel(types.int64(WALKER_OF_ARRAYS, types.uint64, types.uint64, types.boolean, COUNTER_OF_ARRAYS))
def walk_noting_nodes(walker, gva, access, caches, counter):
    """See :func:`quire.tlb.nodes._kernels.walk_noting_nodes`."""
    by_node = NodeCounter(pointer(counter.nodes), pointer(counter.counts), pointer(counter.lines))
    return by_pointer.walk_noting_nodes(pointers(walker), gva, access, caches, by_node)


@kernel(types.boolean(ARRAY, types.uint64))
def reaches_memory(lines, hpa):
    """See :func:`quire.tlb.nodes._kernels.reaches_memory`."""
    return by_pointer.reaches_memory(pointer(lines), hpa)
