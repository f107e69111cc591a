"""Compiled batches: many blocks of one order taken and given back at once, frames moved into caches and out of them.

Loaded when the first batch is asked for. Arrays and scalars in, as in ``_kernels.py``, whose kernels these call.
"""

import numpy as np

from quire.kernels import kernel, types
from quire.memory._kernels import move, owned, poisoned, prepare, put, retire, take
from quire.memory._kernels_buddy import (
    INT,
    OWNED,
    TALLY,
    WORDS,
    bits_of,
    counts_of,
    find,
    heads_of,
    ids_of,
    lowest,
    pointer,
    states_of,
)
from quire.memory.host import WORDS_PER_FRAME
from quire.memory.layout import MARKED, Count, Step

U = np.uint64
INDICES = types.int64[::1]

_BASE = np.int64(Count.BASE)
_LOOK, _REFUSED = np.int64(Step.LOOK), np.int64(Step.REFUSED)
_MARKED = np.int64(MARKED)
_PER_FRAME = np.int64(WORDS_PER_FRAME)
_I0, _I1 = np.int64(0), np.int64(1)


@kernel(types.void(TALLY, OWNED, INT, INT, INT, INT, INT))
def change_owner(counts, ids, index, old, old_kind, new, new_kind):
    """Make frame `index` another's."""
    ids[index] = new
    move(counts, _I1, old_kind, old, -_I1)
    move(counts, _I1, new_kind, new, _I1)


@kernel(INT(WORDS, WORDS, INT, INT, INT, INT, INT, INT))
def hand_out(records, memory, hfn, cache, cached, owner, kind, way):
    """Give a frame of a cache to an owner: 0 or LOOK."""
    counts = counts_of(records)
    ids = ids_of(records, counts)
    states = states_of(records, counts)
    index = hfn - counts[_BASE]
    if not prepare(states, memory, counts, index, way):
        return _LOOK
    change_owner(counts, ids, index, cache, cached, owner, kind)
    return _I0


@kernel(INT(WORDS, WORDS, INT, INT, INT, INT, INT, INT))
def hand_in(records, memory, hfn, cache, cached, owner, kind, way):
    """Take a frame back from its owner into a cache: 0, REFUSED or LOOK."""
    counts = counts_of(records)
    heads = heads_of(records, counts)
    ids = ids_of(records, counts)
    states = states_of(records, counts)
    index = hfn - counts[_BASE]
    if not owned(heads, counts, ids, index, _I0, owner):
        return _REFUSED
    if not retire(states, memory, counts, index, way):
        return _LOOK
    change_owner(counts, ids, index, owner, kind, cache, cached)
    return _I0


@kernel(types.void(WORDS, INT, INT, INT, WORDS))
def take_many(records, order, owner, kind, hfns):
    """Fill `hfns` with blocks for an owner; there are so many. What they contain is left as it is."""
    counts = counts_of(records)
    bits = bits_of(records, counts)
    heads = heads_of(records, counts)
    ids = ids_of(records, counts)
    for n in range(hfns.size):
        found = find(counts, order)
        index = lowest(bits, counts, found)
        take(bits, heads, counts, ids, index, found, order, owner, kind)
        hfns[n] = U(counts[_BASE] + index)


@kernel(types.void(WORDS, INT, INT, INT, WORDS))
def put_many(records, order, owner, kind, hfns):
    """Take the blocks `hfns` back, the last one first: what take_many gave goes back as it came."""
    counts = counts_of(records)
    bits = bits_of(records, counts)
    heads = heads_of(records, counts)
    ids = ids_of(records, counts)
    for n in range(hfns.size):
        index = np.int64(hfns[hfns.size - _I1 - n]) - counts[_BASE]
        put(bits, heads, counts, ids, index, order, owner, kind)


@kernel(INT(WORDS, INT, INT, WORDS))
def first_foreign(records, order, owner, hfns):
    """Return the position of the first of `hfns` that is not a block of the owner, or named before; else -1."""
    counts = counts_of(records)
    heads = heads_of(records, counts)
    ids = ids_of(records, counts)
    bad = np.int64(-1)
    seen = _I0
    while seen < hfns.size:
        # A number of 2**63 and more becomes negative: outside.
        index = np.int64(hfns[seen]) - counts[_BASE]
        if not owned(heads, counts, ids, index, order, owner):
            bad = seen
            break
        heads[index] |= _MARKED
        seen += _I1
    for n in range(seen):
        index = np.int64(hfns[n]) - counts[_BASE]
        heads[index] ^= _MARKED
    return bad


@kernel(INT(WORDS, WORDS, INDICES))
def first_written(records, memory, frames):
    """Return the position of the first index in `frames` that is not all poison, or -1."""
    counts = counts_of(records)
    for n in range(frames.size):
        if not poisoned(pointer(memory), (counts[_BASE] + frames[n]) * _PER_FRAME):
            return np.int64(n)
    return np.int64(-1)


@kernel(types.void(WORDS, WORDS, INDICES, types.uint64))
def fill_frames(records, memory, frames, word):
    """Set every word of the frames with these indices, all inside memory."""
    counts = counts_of(records)
    for n in range(frames.size):
        start = (counts[_BASE] + frames[n]) * _PER_FRAME
        memory[start : start + _PER_FRAME] = word


@kernel(types.void(WORDS, INT, INT, INT, INT, INT))
def give(records, index, old, old_kind, new, new_kind):
    """Make frame `index` another's; what it contains is done."""
    counts = counts_of(records)
    ids = ids_of(records, counts)
    change_owner(counts, ids, index, old, old_kind, new, new_kind)
