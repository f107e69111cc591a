"""Compiled replacement: scans of a set's tags and stamps, lists of its ways, its tree, and random choice."""

import numpy as np
from numba import types

from quire.kernels import kernel
from quire.paging.ept._kernels import WORDS
from quire.tlb.layout import Shape, TlbState

U = np.uint64
SHAPES = types.CPointer(types.int64)

_START, _SET_MASK, _WAYS, _POLICY, _TREES = (int(s) for s in Shape)
_CAPACITY, _RANDOM = int(TlbState.CAPACITY), int(TlbState.RANDOM)
_WAY_BITS, _WAY_MASK = np.int64(7), np.int64(127)  # ways of a set at most: 128
_LARGEST_KEY = np.int64((1 << 63) - 1)
_NIBBLES, _NIBBLE_TOPS = U(0x1111_1111_1111_1111), U(0x8888_8888_8888_8888)
_0, _1, _3, _4, _7, _13, _15, _17 = (U(n) for n in (0, 1, 3, 4, 7, 13, 15, 17))
_I0, _I1 = np.int64(0), np.int64(1)


@kernel(types.int64(WORDS, types.int64, types.int64, types.uint64), inline="always")
def scan(entries, start, ways, tag):
    """Return the entry of the set at `start` that holds `tag`, or -1: a loop that the compiler makes a vector of.

    At most one way holds it, so that a sum finds which: it takes fewer instructions than a maximum.
    """
    found = _I0
    for way in range(ways):
        found += np.int64(way) + _I1 if entries[start + way] == tag else _I0
    return start + found - _I1 if found else np.int64(-1)


@kernel(types.int64(WORDS, types.int64, types.int64), inline="always")
def oldest(stamps, start, ways):
    """Return the entry of the set at `start` with the least stamp, the first of equals; a free one has stamp 0."""
    least = _LARGEST_KEY  # signed, for which processors have more vector instructions
    for way in range(ways):
        least = min(least, (np.int64(stamps[start + way]) << _WAY_BITS) | np.int64(way))
    return start + (least & _WAY_MASK)


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64))
def point_away(entries, state, shapes, row, index):
    """Make the tree of the set of entry `index` point away from it, at every node on its way."""
    ways = shapes[row + _WAYS]
    offset = index - shapes[row + _START]
    way = offset % ways
    tree = np.int64(3) * np.int64(state[_CAPACITY]) + shapes[row + _TREES] + offset // ways
    leaves = _I1
    while leaves < ways:
        leaves <<= _I1
    word = entries[tree]
    node, half = _I1, leaves >> _I1
    while half > _I0:
        if way & half:
            word &= ~(_1 << U(node))
            node = (node << _I1) + _I1
        else:
            word |= _1 << U(node)
            node <<= _I1
        half >>= _I1
    entries[tree] = word


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.int64))
def pointed_at(entries, state, shapes, row, start):
    """Return the entry of a full set that its tree points at; a tree of other than 2**n ways lacks its last leaves."""
    ways = shapes[row + _WAYS]
    set_number = (start - shapes[row + _START]) // ways
    word = entries[np.int64(3) * np.int64(state[_CAPACITY]) + shapes[row + _TREES] + set_number]
    leaves = _I1
    while leaves < ways:
        leaves <<= _I1
    node, half, way = _I1, leaves >> _I1, _I0
    while half > _I0:
        right = (word >> U(node)) & _1 != _0 and way + half < ways
        node <<= _I1
        if right:
            node += _I1
            way += half
        half >>= _I1
    return start + way


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64))
def any_way(entries, state, shapes, row):
    """Return a way by the generator of :class:`TlbState` RANDOM (xorshift64)."""
    word = state[_RANDOM]
    word ^= word << _13
    word ^= word >> _7
    word ^= word << _17
    state[_RANDOM] = word
    return np.int64(word % U(shapes[row + _WAYS]))


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64), inline="always")
def move_to_front(entries, state, shapes, row, index, set_number):
    """Make entry `index` the first of its set's list: four bits a way, the least recently used one last.

    The lowest nibble that is the way is the lowest that is 0 in `apart`; those below it move up by one.
    """
    at = np.int64(3) * np.int64(state[_CAPACITY]) + shapes[row + _TREES] + np.int64(set_number)
    way = U(index - shapes[row + _START]) - set_number * U(shapes[row + _WAYS])
    word = entries[at]
    apart = word ^ (way * _NIBBLES)
    zeros = (apart - _NIBBLES) & ~apart & _NIBBLE_TOPS
    lowest = (zeros & (~zeros + _1)) >> _3
    below = lowest - _1
    entries[at] = (word & ~(below | lowest * _15)) | ((word & below) << _4) | way
