"""Compiled replacement: scans of a set's tags and stamps, lists of its ways, and what each policy notes and chooses.

A policy has a branch in :func:`mark`, if its uses change the word of the set, and in :func:`choose`; its name, number
and slow twin are in ``arch/replacement.py``. The word of a set is where :func:`word_of_set` says in
`entries`, and 0 at first.
"""

import numpy as np

from quire.arch import Replacement
from quire.kernels import kernel, types
from quire.memory._kernels_buddy import lowest_bit
from quire.paging._kernels_ept import WORDS
from quire.tlb.layout import Shape, TlbState

U = np.uint64
SHAPES = types.CPointer(types.int64)

#: Policies by number.
LRU = np.int64(Replacement.LRU.number)
_PLRU, _RANDOMLY = np.int64(Replacement.PLRU.number), np.int64(Replacement.RANDOM.number)

_START, _WAYS, _SET_WORDS = int(Shape.START), int(Shape.WAYS), int(Shape.SET_WORDS)
_POLICY = int(Shape.POLICY)
_CAPACITY, _RANDOM = int(TlbState.CAPACITY), int(TlbState.RANDOM)
_WAY_BITS, _WAY_MASK = np.int64(7), np.int64(127)  # ways of a set at most: 128
_LARGEST_KEY = np.int64((1 << 63) - 1)
_NIBBLES, _NIBBLE_TOPS = U(0x1111_1111_1111_1111), U(0x8888_8888_8888_8888)
_0, _1, _3, _4, _7, _8, _13, _15, _17 = (U(n) for n in (0, 1, 3, 4, 7, 8, 13, 15, 17))
_I0, _I1, _I3, _I4, _I6, _I8 = (np.int64(n) for n in (0, 1, 3, 4, 6, 8))
_I12, _I32, _I64, _I128 = (np.int64(n) for n in (12, 32, 64, 128))


def lanes(words, at, word):
    """Return a bit for each of the four words from `at` on that is `word`; compiled, one comparison of vectors."""
    return U(sum((words[at + lane] == word) << lane for lane in range(4)))


@kernel(types.int64(WORDS, types.int64, types.int64, types.uint64), forceinline=True)
def scan(entries, start, ways, tag):
    """Return the entry of the set at `start` that holds `tag`, or -1.

    Four ways a step; the words behind a set, and behind the last of them stamps, are compared and left out. The
    commonest numbers of ways are constants, which need no loop: a replay then takes some 6 % less time.
    """
    if ways == _I4:
        same = lanes(entries, start, tag)
    elif ways == _I12:
        same = (
            lanes(entries, start, tag)
            | lanes(entries, start + _I4, tag) << _4
            | lanes(entries, start + _I8, tag) << _8
        )
    elif ways == _I32:
        same = _0
        for way in range(0, 32, 4):
            same |= lanes(entries, start + np.int64(way), tag) << U(way)
    else:
        same = _0
        for way in range(_I0, min(ways, _I64), _I4):
            same |= lanes(entries, start + way, tag) << U(way)
        if ways < _I64:
            same &= (_1 << U(ways)) - _1
        elif same == _0:
            for way in range(_I64, ways, _I4):
                same |= lanes(entries, start + way, tag) << U(way - _I64)
            if ways < _I128:
                same &= (_1 << U(ways - _I64)) - _1
            return start + _I64 + lowest_bit(same) if same else np.int64(-1)
    return start + lowest_bit(same) if same else np.int64(-1)


@kernel(types.int64(WORDS, types.int64, types.int64), inline="always")
def least_stamp(stamps, start, ways):
    """Return the way with the least stamp, the first of equals; a free one has stamp 0."""
    least = _LARGEST_KEY  # signed, for which processors have more vector instructions
    for way in range(ways):
        least = min(least, (np.int64(stamps[start + way]) << _WAY_BITS) | np.int64(way))
    return least & _WAY_MASK


@kernel(types.int64(WORDS, types.int64, types.int64), forceinline=True)
def oldest(stamps, start, ways):
    """Return the entry of the set at `start` with the least stamp; constants as in :func:`scan`."""
    if ways == _I4:
        return start + least_stamp(stamps, start, 4)
    if ways == _I6:
        return start + least_stamp(stamps, start, 6)
    if ways == _I32:
        return start + least_stamp(stamps, start, 32)
    return start + least_stamp(stamps, start, ways)


@kernel(types.int64(WORDS, SHAPES, types.int64, types.int64), forceinline=True)
def word_of_set(state, shapes, row, index):
    """Return where the word is that the policy of the structure at `row` keeps of the set of entry `index`."""
    set_number = (index - shapes[row + _START]) // shapes[row + _WAYS]
    return _I3 * np.int64(state[_CAPACITY]) + shapes[row + _SET_WORDS] + set_number


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64))
def point_away(entries, state, shapes, row, index):
    """Make the tree of the set of entry `index` point away from it, at every node on its way."""
    ways = shapes[row + _WAYS]
    way = (index - shapes[row + _START]) % ways
    tree = word_of_set(state, shapes, row, index)
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
    word = entries[word_of_set(state, shapes, row, start)]
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


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64), forceinline=True)
def mark(entries, state, shapes, row, index):
    """Note in the word of its set that entry `index` of the structure at `row` was used, if its policy does so."""
    policy = shapes[row + _POLICY]
    if policy == _PLRU:
        point_away(entries, state, shapes, row, index)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.int64, types.int64))
def choose(entries, state, shapes, row, start, least_recent):
    """Return the entry that goes from the full set at `start`; `least_recent` is the one used longest ago."""
    policy = shapes[row + _POLICY]
    if policy == _PLRU:
        return pointed_at(entries, state, shapes, row, start)
    if policy == _RANDOMLY:
        return start + any_way(entries, state, shapes, row)
    return least_recent


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64), inline="always")
def move_to_front(entries, state, shapes, row, index, set_number):
    """Make entry `index` the first of its set's list: four bits a way, the least recently used one last.

    The lowest nibble that is the way is the lowest that is 0 in `apart`; those below it move up by one.
    """
    at = np.int64(3) * np.int64(state[_CAPACITY]) + shapes[row + _SET_WORDS] + np.int64(set_number)
    way = U(index - shapes[row + _START]) - set_number * U(shapes[row + _WAYS])
    word = entries[at]
    apart = word ^ (way * _NIBBLES)
    zeros = (apart - _NIBBLES) & ~apart & _NIBBLE_TOPS
    lowest = (zeros & (~zeros + _1)) >> _3
    below = lowest - _1
    entries[at] = (word & ~(below | lowest * _15)) | ((word & below) << _4) | way
