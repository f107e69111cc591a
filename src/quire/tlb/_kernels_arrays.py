"""Lookups, fills and invalidations for callers that have arrays, and the move of a table without bound.

Among themselves kernels pass pointers; only the outermost takes arrays (see ``memory/_kernels_buddy.py``).
"""

import numpy as np

from quire.kernels import kernel, types
from quire.paging._kernels_ept import pointer
from quire.tlb import _kernels as by_pointer
from quire.tlb._kernels import KIND_SHIFTS_ARRAY
from quire.tlb.layout import TAG, TRANSLATION, Keeping, Kind, Shape, Shapes, TlbState
from quire.tlb.spaces import MARKS, Extent

U = np.uint64
ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]

_CLOCK, _CAPACITY = int(TlbState.CLOCK), int(TlbState.CAPACITY)
_UNBOUNDED_START = int(TlbState.UNBOUNDED_START)
_KIND, _SPACE_SHIFT, _PAGES = U(TAG.shift("kind")), U(TAG.shift("space")), U(TAG.mask("page"))
_WALK_SIZE, _LINEAR, _PDE = U(TRANSLATION.shift("walk_size")), U((1 << 57) - 1), U(Kind.PDE)
_SPARED, _OF_GVA, _OF_GPA = (np.uint8(MARKS[e]) for e in (Extent.NOTHING, Extent.GVA, Extent.GPA))
_LEAST_TAG, _TOMB = U(1 << TAG.shift("space")), U(1)
_START, _SET_MASK, _WAYS = int(Shape.START), int(Shape.SET_MASK), int(Shape.WAYS)
_POLICY, _LISTS = int(Shape.POLICY), int(Shape.SET_WORDS)
_ROW, _ROWS, _LISTED = len(Shape), int(Shapes.ROWS), np.int64(Keeping.LISTED)
_DROPS = int(TlbState.DROPS)
_PIECES, _FEW = int(TlbState.PIECES), 8
_0, _1, _2, _3, _7, _15, _I0 = U(0), U(1), U(2), U(3), U(7), U(15), np.int64(0)


@kernel(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.uint64, types.int64))
def lookup(entries, state, shapes, gva, side):
    """See :func:`quire.tlb._kernels.lookup`."""
    return by_pointer.lookup(pointer(entries), pointer(state), pointer(shapes), gva, side)


@kernel(
    types.int64(
        ARRAY,
        ARRAY,
        SHAPE_ARRAY,
        types.uint64,
        types.int64,
        types.uint64,
        types.boolean,
        types.uint64,
        types.boolean,
    )
)
def fill(entries, state, shapes, gva, side, size, is_global, value, absent):
    """See :func:`quire.tlb._kernels.fill`."""
    return by_pointer.fill(
        pointer(entries), pointer(state), pointer(shapes), gva, side, size, is_global, value, absent
    )


@kernel(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.int64, types.uint64, types.uint64))
def insert(entries, state, shapes, row, tag, value):
    """See :func:`quire.tlb._kernels.insert`."""
    return by_pointer.insert(pointer(entries), pointer(state), pointer(shapes), row, tag, value)


@kernel(types.void(ARRAY, ARRAY, SHAPE_ARRAY, types.int64))
def free_last_of(entries, state, shapes, row):
    """Put the free ways of each list of the structure at `row` behind those that hold something, in their order."""
    trees = np.int64(3) * np.int64(state[_CAPACITY])
    ways = shapes[row + _WAYS]
    for number in range(shapes[row + _SET_MASK] + 1):
        at, start = trees + shapes[row + _LISTS] + number, shapes[row + _START] + number * ways
        word = entries[at]
        held, free, settled = _0, _0, word & ~((_1 << (U(ways) << _2)) - _1) if ways < 16 else _0
        for place in range(ways):
            held += U(entries[start + np.int64((word >> (U(place) << _2)) & _15)] != _0)
        used = _0
        for place in range(ways):
            way = (word >> (U(place) << _2)) & _15
            if entries[start + np.int64(way)] != _0:
                settled |= way << (used << _2)
                used += _1
            else:
                settled |= way << ((held + free) << _2)
                free += _1
        entries[at] = settled


@kernel(types.void(ARRAY, ARRAY, SHAPE_ARRAY))
def free_last(entries, state, shapes):
    """Do that with every structure that keeps lists."""
    for row in range(_ROWS, shapes.size, _ROW):
        if shapes[row + _POLICY] == _LISTED:
            free_last_of(entries, state, shapes, np.int64(row))


@kernel(types.void(ARRAY, ARRAY, types.int64), inline="always")
def drop(entries, state, index):
    """Drop an entry."""
    state[_DROPS] += _1
    entries[index] = _0 if U(index) < state[_UNBOUNDED_START] else _TOMB
    entries[np.int64(state[_CAPACITY]) + index] = _0


@kernel(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.uint8[::1], types.uint64, types.uint64))
def drop_where_it_is(entries, state, shapes, marks, gva, gpa):
    """Do what :func:`invalidate` does of one page, where no entry holds a part of a larger one: look it up."""
    dropped = _I0
    for space in range(1, marks.size):
        if marks[space] == _SPARED:
            continue
        address = gva if marks[space] == _OF_GVA else gpa
        for row in range(_ROWS, shapes.size, _ROW):
            before = dropped
            for kind in range(KIND_SHIFTS_ARRAY.size):
                tag = by_pointer.make_tag(address, U(kind), U(space))
                index = by_pointer.find(pointer(entries), pointer(shapes), np.int64(row), tag)
                if index >= 0:
                    drop(entries, state, index)
                    dropped += 1
            if dropped > before and shapes[row + _POLICY] == _LISTED:
                free_last_of(entries, state, shapes, np.int64(row))
    return dropped


@kernel(types.boolean(ARRAY, types.uint8[::1], types.boolean))
def may_look_up(state, marks, every_structure):
    """Whether what an operation drops can be found by its address, in less time than all entries take to look at."""
    spaces = _I0
    for space in range(1, marks.size):
        spaces += np.int64(marks[space] != _SPARED)
        if marks[space] not in (_SPARED, _OF_GVA, _OF_GPA):
            return False
    return not every_structure and state[_PIECES] == _0 and spaces <= _FEW


@kernel(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, types.uint8[::1], types.uint64, types.uint64, types.boolean))
def invalidate(entries, state, shapes, marks, gva, gpa, every_structure):
    """Drop what `marks` says of each address space (:data:`MARKS`): all, what covers `gva`, what covers `gpa`.

    A page goes with all entries that hold pieces of it (SDM 3A §4.10.4.1). With `every_structure`, GVA takes
    all paging-structure entries of the space. Returns how many were dropped; free ways come last in lists then.
    """
    if may_look_up(state, marks, every_structure):
        return drop_where_it_is(entries, state, shapes, marks, gva, gpa)
    capacity = np.int64(state[_CAPACITY])
    dropped = _I0
    for row in range(_ROWS, shapes.size, _ROW):
        begin, before = shapes[row + _START], dropped
        for index in range(begin, begin + (shapes[row + _SET_MASK] + 1) * shapes[row + _WAYS]):
            tag = entries[index]
            if tag < _LEAST_TAG:
                continue
            space, kind = tag >> _SPACE_SHIFT, (tag >> _KIND) & _7
            mark = marks[np.int64(space)]
            if mark == _SPARED:
                continue
            one_page = mark == _OF_GPA or (mark == _OF_GVA and not (every_structure and kind >= _PDE))
            if one_page:
                whole = kind
                if kind < _PDE:
                    whole = max(kind, (entries[2 * capacity + index] >> _WALK_SIZE) & _3)
                here, address = (
                    (tag & _PAGES) << KIND_SHIFTS_ARRAY[kind],
                    (gva if mark == _OF_GVA else gpa) & _LINEAR,
                )
                if (here ^ address) >> KIND_SHIFTS_ARRAY[whole] != _0:
                    continue
            drop(entries, state, np.int64(index))
            dropped += 1
        if dropped > before and shapes[row + _POLICY] == _LISTED:
            free_last_of(entries, state, shapes, np.int64(row))
    return dropped


@kernel(types.void(ARRAY, ARRAY, ARRAY, ARRAY, ARRAY, SHAPE_ARRAY, types.int64))
def take_over(tags, stamps, values, entries, state, shapes, row):
    """Enter what a table without bound held into its successor at `row`."""
    to, state_at, shapes_at = pointer(entries), pointer(state), pointer(shapes)
    clock = state[_CLOCK]
    for n in range(tags.size):
        if tags[n] >= _LEAST_TAG:
            index = by_pointer.insert_unbounded(to, state_at, shapes_at, row, tags[n], values[n])
            entries[np.int64(state[_CAPACITY]) + index] = stamps[n]
    state[_CLOCK] = clock
