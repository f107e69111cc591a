"""Compiled buddy system: the lowest free block of an order, splits and joins, over bitmaps with summaries.

Pointers go in (see ``layout.py`` for what they point to); callers pass only free blocks that these kernels
found and taken ones. The slow twin is ``reference.py``.
"""

import numpy as np

from quire.kernels import kernel, types
from quire.memory.layout import FREE, LEVELS, MAX_ORDER, ORDER_COUNT, TAKEN, Count, Step

U = np.uint64
BITS, HEADS = types.CPointer(types.uint64), types.CPointer(types.uint8)
OWNED, TALLY = types.CPointer(types.uint16), types.CPointer(types.int64)
INT = types.int64
WORDS = types.uint64[::1]

_SPLITS, _JOINS = np.int64(Count.SPLITS), np.int64(Count.JOINS)
_FREE_BLOCKS, _HEIGHTS = np.int64(Count.FREE_BLOCKS), np.int64(Count.HEIGHTS)
_PLACES = np.int64(Count.PLACES)
_HEADS_AT, _STATES_AT = np.int64(Count.HEADS_AT), np.int64(Count.STATES_AT)
_IDS_AT, _BITS_AT = np.int64(Count.IDS_AT), np.int64(Count.BITS_AT)
_EXHAUSTED = np.int64(Step.EXHAUSTED)
_FREE, _TAKEN = np.int64(FREE), np.int64(TAKEN)
_MAX_ORDER, _ORDER_COUNT, _LEVELS = np.int64(MAX_ORDER), np.int64(ORDER_COUNT), np.int64(LEVELS)
_0, _1, _64BITS = U(0), U(1), np.int64(6)
_I0, _I1, _I63 = np.int64(0), np.int64(1), np.int64(63)


# Kernels that call kernels pass pointers: a compiled call that passes an array also counts a reference to it, which
# costs more than a level of a walk or a step of a join. Only the outermost takes arrays. Without the compiler a pointer
# is the array.
def pointer(array):
    """Return `array`; compiled, the address of its first element, which is indexed alike."""
    return array


def _caster(like, place):
    """Return a function for the pointer to the array that `place` locates in a pool's records; jitless, a view."""

    def of(records, counts):
        return records[counts[place] :].view(like)

    return of


def counts_of(records):
    """Return the pointer to the counts of a pool's records."""
    return records.view(np.int64)


# One argument, the records, instead of five: each array costs a caller from Python some 60 ns, and a view in compiled
# code costs a second of compilation.
heads_of, states_of = _caster(np.uint8, _HEADS_AT), _caster(np.uint8, _STATES_AT)
ids_of, bits_of = _caster(np.uint16, _IDS_AT), _caster(np.uint64, _BITS_AT)
#: What each of these finds, and where: their compiled forms are in ``_intrinsics.py``.
PARTS = (
    (heads_of, np.uint8, _HEADS_AT),
    (states_of, np.uint8, _STATES_AT),
    (ids_of, np.uint16, _IDS_AT),
    (bits_of, np.uint64, _BITS_AT),
)


def lowest_bit(word):
    """Return the number of the lowest set bit of `word`, which is not 0; compiled, one instruction."""
    return np.int64((int(word) & -int(word)).bit_length() - 1)


@kernel(types.void(BITS, TALLY, INT, INT))
def set_free(bits, counts, order, index):
    """Note the block at `index` as free in the bitmap of `order`, and in the summaries that did not say so."""
    counts[_FREE_BLOCKS + order] += _I1
    at = index >> order
    for level in range(counts[_HEIGHTS + order]):
        word = counts[_PLACES + order * _LEVELS + level] + (at >> _64BITS)
        before = bits[word]
        bits[word] = before | _1 << U(at & _I63)
        if before != _0:
            return
        at >>= _64BITS


@kernel(types.void(BITS, TALLY, INT, INT))
def clear_free(bits, counts, order, index):
    """Take the block at `index` out of the bitmap of `order`, and out of summaries of what is now empty."""
    counts[_FREE_BLOCKS + order] -= _I1
    at = index >> order
    for level in range(counts[_HEIGHTS + order]):
        word = counts[_PLACES + order * _LEVELS + level] + (at >> _64BITS)
        after = bits[word] & ~(_1 << U(at & _I63))
        bits[word] = after
        if after != _0:
            return
        at >>= _64BITS


@kernel(INT(TALLY, INT))
def find(counts, order):
    """Return the smallest order from `order` on that has a free block, or EXHAUSTED."""
    for found in range(order, _ORDER_COUNT):
        if counts[_FREE_BLOCKS + found] != _I0:
            return np.int64(found)
    return _EXHAUSTED


@kernel(INT(BITS, TALLY, INT))
def lowest(bits, counts, order):
    """Return the index of the lowest free block of `order`, of which there is one."""
    at = _I0
    for below in range(counts[_HEIGHTS + order]):
        level = counts[_HEIGHTS + order] - _I1 - below
        at = (at << _64BITS) + lowest_bit(bits[counts[_PLACES + order * _LEVELS + level] + at])
    return at << order


@kernel(types.void(BITS, HEADS, TALLY, INT, INT, INT))
def split(bits, heads, counts, index, found, order):
    """Take the first 2**order frames of the free block of order `found` at `index`; the rest stays free."""
    clear_free(bits, counts, found, index)
    counts[_SPLITS] += found - order
    while found > order:
        found -= _I1
        buddy = index | _I1 << found
        heads[buddy] = _FREE | found
        set_free(bits, counts, found, buddy)
    heads[index] = _TAKEN | order


@kernel(types.void(BITS, HEADS, TALLY, INT, INT))
def join(bits, heads, counts, index, order):
    """Make a taken block free and join it with its free buddies as far as they go."""
    heads[index] = _I0
    counts[_JOINS] -= order
    while order < _MAX_ORDER:
        buddy = index ^ _I1 << order
        if heads[buddy] != _FREE | order:
            break
        heads[buddy] = _I0
        clear_free(bits, counts, order, buddy)
        index &= buddy
        order += _I1
    counts[_JOINS] += order
    heads[index] = _FREE | order
    set_free(bits, counts, order, index)
