"""Lookups, fills and invalidations for callers that have arrays, and the move of a table without bound."""

import numpy as np
from numba import njit, types

from quire.paging.ept._kernels import pointer
from quire.tlb import _kernels as by_pointer
from quire.tlb.layout import TAG, TlbState

U = np.uint64
ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]

_CLOCK, _CAPACITY = int(TlbState.CLOCK), int(TlbState.CAPACITY)
_LEAST_TAG = U(1 << TAG.shift("space"))


@njit(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.uint64, types.int64), cache=True, nogil=True)
def lookup(entries, state, shapes, gva, side):
    """See :func:`quire.tlb._kernels.lookup`."""
    return by_pointer.lookup(pointer(entries), pointer(state), pointer(shapes), gva, side)


@njit(
    types.int64(
        ARRAY, ARRAY, SHAPE_ARRAY, types.uint64, types.int64, types.uint64, types.boolean, types.uint64
    ),
    cache=True,
    nogil=True,
)
def fill(entries, state, shapes, gva, side, size, is_global, value):
    """See :func:`quire.tlb._kernels.fill`."""
    return by_pointer.fill(
        pointer(entries), pointer(state), pointer(shapes), gva, side, size, is_global, value
    )


@njit(
    types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.int64, types.uint64, types.uint64),
    cache=True,
    nogil=True,
)
def insert(entries, state, shapes, row, tag, value):
    """See :func:`quire.tlb._kernels.insert`."""
    return by_pointer.insert(pointer(entries), pointer(state), pointer(shapes), row, tag, value)


@njit(
    types.int64(ARRAY, ARRAY, types.uint8[::1], types.uint64, types.uint64, types.boolean),
    cache=True,
    nogil=True,
)
def invalidate(entries, state, marks, gva, gpa, every_structure):
    """See :func:`quire.tlb._kernels.invalidate`."""
    return by_pointer.invalidate(pointer(entries), pointer(state), pointer(marks), gva, gpa, every_structure)


@njit(types.void(ARRAY, ARRAY, ARRAY, ARRAY, ARRAY, SHAPE_ARRAY, types.int64), cache=True, nogil=True)
def take_over(tags, stamps, values, entries, state, shapes, row):
    """Enter what a table without bound held into its successor at `row`."""
    to, state_at, shapes_at = pointer(entries), pointer(state), pointer(shapes)
    clock = state[_CLOCK]
    for n in range(tags.size):
        if tags[n] >= _LEAST_TAG:
            index = by_pointer.insert_unbounded(to, state_at, shapes_at, row, tags[n], values[n])
            entries[np.int64(state[_CAPACITY]) + index] = stamps[n]
    state[_CLOCK] = clock
