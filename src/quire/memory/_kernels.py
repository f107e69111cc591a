"""Compiled allocation: single frames whole, with what they contain, and batches.

Arrays and scalars in, a frame number or a `Step` out. Callers have checked orders and owners; a frame number is
compared with the pool's range and with the size of memory before it indexes anything. The slow twin is
``reference.py``.
"""

import numpy as np
from numba import njit, types

from quire.memory.buddy._kernels import (
    BITS,
    HEADS,
    INT,
    OWNED,
    TALLY,
    find,
    join,
    lowest,
    pointer,
    set_free,
    split,
)
from quire.memory.host import WORDS_PER_FRAME
from quire.memory.layout import (
    ALLOCATED_BYTE,
    COUNTS,
    FREE,
    FREED_BYTE,
    MARKED,
    TAKEN,
    Content,
    Count,
    Handling,
    Step,
)
from quire.memory.owner import FREE_ID

U = np.uint64
WORDS, BYTES, IDS, INDICES = types.uint64[::1], types.uint8[::1], types.uint16[::1], types.int64[::1]

_BASE, _FIRST, _END, _INITIAL, _SPLITS, _JOINS, _ALLOCATIONS, _FREES, _PEAK = (
    np.int64(count) for count in list(Count)[:9]
)
_HEADS_AT, _STATES_AT, _IDS_AT, _BITS_AT, _RECORDS_END = (np.int64(count) for count in list(Count)[9:14])
_KINDS, _HELD, _COUNTS = np.int64(Count.KINDS), np.int64(Count.HELD), np.int64(COUNTS)
_EXHAUSTED, _LOOK, _REFUSED = (np.int64(step) for step in Step)
_NUMBERS, _LEAVE, _ZERO, _POISON = (np.int64(way) for way in Handling)
_FRESH, _POISONED, _DISCARDED, _STALE, _LIVE = (np.int64(content) for content in Content)
_FREE, _TAKEN, _MARKED, _FREE_ID = np.int64(FREE), np.int64(TAKEN), np.int64(MARKED), np.int64(FREE_ID)
_PER_FRAME = np.int64(WORDS_PER_FRAME)
_FREED_WORD = U(int.from_bytes(bytes([FREED_BYTE]) * 8, "little"))
_ALLOCATED_WORD = U(int.from_bytes(bytes([ALLOCATED_BYTE]) * 8, "little"))
_0, _I0, _I1 = U(0), np.int64(0), np.int64(1)


@njit(
    types.Tuple((WORDS, BYTES, INDICES, IDS, BYTES))(WORDS),
    cache=True,
    nogil=True,
)
def views(records):
    """Return the arrays that lie in `records`: bits, heads, counts, owner numbers, states of contents.

    One argument instead of five: each costs a caller from Python some 60 ns.
    """
    counts = records[:_COUNTS].view(np.int64)
    return (
        records[counts[_BITS_AT] : counts[_RECORDS_END]],
        records[counts[_HEADS_AT] : counts[_STATES_AT]].view(np.uint8),
        counts,
        records[counts[_IDS_AT] : counts[_BITS_AT]].view(np.uint16),
        records[counts[_STATES_AT] : counts[_IDS_AT]].view(np.uint8),
    )


@njit(types.void(TALLY, INT, INT, INT, INT), cache=True, nogil=True)
def move(counts, frames, kind, owner, sign):
    """Count `frames` for an owner (`sign` 1) or no more (-1); FREE has the rest."""
    counts[_KINDS + kind] += sign * frames
    counts[_HELD + owner] += sign * frames
    counts[_KINDS] -= sign * frames
    counts[_HELD] -= sign * frames


@njit(types.void(BITS, HEADS, TALLY, OWNED, INT, INT, INT, INT, INT), cache=True, nogil=True)
def take(bits, heads, counts, ids, index, found, order, owner, kind):
    """Give the first 2**order frames of the free block at `index` to an owner, all records included."""
    split(bits, heads, counts, index, found, order)
    frames = _I1 << order
    for frame in range(index, index + frames):
        ids[frame] = owner
    move(counts, frames, kind, owner, _I1)
    counts[_ALLOCATIONS] += _I1
    used = counts[_END] - counts[_FIRST] - counts[_KINDS]
    if used > counts[_PEAK]:
        counts[_PEAK] = used


@njit(types.void(BITS, HEADS, TALLY, OWNED, INT, INT, INT, INT), cache=True, nogil=True)
def put(bits, heads, counts, ids, index, order, owner, kind):
    """Take a block back from its owner, all records included but the contents."""
    frames = _I1 << order
    for frame in range(index, index + frames):
        ids[frame] = _FREE_ID
    join(bits, heads, counts, index, order)
    move(counts, frames, kind, owner, -_I1)
    counts[_FREES] += _I1


@njit(types.boolean(BITS, INT), cache=True, nogil=True)
def poisoned(memory, start):
    """Whether the frame whose first word is `start` is all poison."""
    wrong = _0
    for word in range(start, start + _PER_FRAME):
        wrong |= memory[word] ^ _FREED_WORD
    return wrong == _0


@njit(types.boolean(HEADS, WORDS, TALLY, INT, INT), cache=True, nogil=True)
def prepare(states, memory, counts, index, way):
    """Prove that free frame `index` was not written, and fill it. False, nothing done, if Python has to look."""
    if way == _NUMBERS:
        states[index] = _LIVE
        return True
    state = np.int64(states[index])
    start = (counts[_BASE] + index) * _PER_FRAME
    if (state != _POISONED and state != _STALE) or start + _PER_FRAME > memory.size:
        return False
    if state == _POISONED and not poisoned(pointer(memory), start):
        return False
    if way == _ZERO:
        memory[start : start + _PER_FRAME] = _0
    elif way == _POISON:
        memory[start : start + _PER_FRAME] = _ALLOCATED_WORD
    states[index] = _LIVE
    return True


@njit(types.boolean(HEADS, WORDS, TALLY, INT, INT), cache=True, nogil=True)
def retire(states, memory, counts, index, way):
    """Poison frame `index`, which becomes free. False, nothing done, if there is no such memory."""
    if way != _POISON:
        states[index] = _STALE
        return True
    start = (counts[_BASE] + index) * _PER_FRAME
    if start + _PER_FRAME > memory.size:
        return False
    memory[start : start + _PER_FRAME] = _FREED_WORD
    states[index] = _POISONED
    return True


@njit(types.boolean(HEADS, TALLY, OWNED, INT, INT, INT), cache=True, nogil=True)
def owned(heads, counts, ids, index, order, owner):
    """Whether `index` starts a taken block of `order` that is the owner's."""
    inside = counts[_FIRST] <= index and index < counts[_END]
    return inside and heads[index] == _TAKEN | order and ids[index] == owner


@njit(INT(WORDS, WORDS, INT, INT, INT, INT), cache=True, nogil=True)
def allocate_frame(records, memory, owner, kind, way, reserved):
    """Give one frame to an owner, if more than `reserved` are free: its number, EXHAUSTED or LOOK."""
    bits, heads, counts, ids, states = views(records)
    found = find(pointer(counts), _I0)
    if found < _I0 or counts[_KINDS] <= reserved:
        return _EXHAUSTED
    index = lowest(pointer(bits), pointer(counts), found)
    if not prepare(pointer(states), memory, pointer(counts), index, way):
        return _LOOK
    take(pointer(bits), pointer(heads), pointer(counts), pointer(ids), index, found, _I0, owner, kind)
    return counts[_BASE] + index


@njit(INT(WORDS, WORDS, INT, INT, INT, INT), cache=True, nogil=True)
def free_frame(records, memory, hfn, owner, kind, way):
    """Take one frame back from its owner: 0, REFUSED or LOOK."""
    bits, heads, counts, ids, states = views(records)
    index = hfn - counts[_BASE]
    if not owned(pointer(heads), pointer(counts), pointer(ids), index, _I0, owner):
        return _REFUSED
    if not retire(pointer(states), memory, pointer(counts), index, way):
        return _LOOK
    put(pointer(bits), pointer(heads), pointer(counts), pointer(ids), index, _I0, owner, kind)
    return _I0


@njit(types.void(TALLY, OWNED, INT, INT, INT, INT, INT), cache=True, nogil=True)
def change_owner(counts, ids, index, old, old_kind, new, new_kind):
    """Make frame `index` another's."""
    ids[index] = new
    move(counts, _I1, old_kind, old, -_I1)
    move(counts, _I1, new_kind, new, _I1)


@njit(INT(WORDS, WORDS, INT, INT, INT, INT, INT, INT), cache=True, nogil=True)
def hand_out(records, memory, hfn, cache, cached, owner, kind, way):
    """Give a frame of a cache to an owner: 0 or LOOK."""
    _, _, counts, ids, states = views(records)
    index = hfn - counts[_BASE]
    if not prepare(pointer(states), memory, pointer(counts), index, way):
        return _LOOK
    change_owner(pointer(counts), pointer(ids), index, cache, cached, owner, kind)
    return _I0


@njit(INT(WORDS, WORDS, INT, INT, INT, INT, INT, INT), cache=True, nogil=True)
def hand_in(records, memory, hfn, cache, cached, owner, kind, way):
    """Take a frame back from its owner into a cache: 0, REFUSED or LOOK."""
    _, heads, counts, ids, states = views(records)
    index = hfn - counts[_BASE]
    if not owned(pointer(heads), pointer(counts), pointer(ids), index, _I0, owner):
        return _REFUSED
    if not retire(pointer(states), memory, pointer(counts), index, way):
        return _LOOK
    change_owner(pointer(counts), pointer(ids), index, owner, kind, cache, cached)
    return _I0


@njit(types.void(WORDS, INT, INT, INT, WORDS), cache=True, nogil=True)
def take_many(records, order, owner, kind, hfns):
    """Fill `hfns` with blocks for an owner; there are so many. What they contain is left as it is."""
    bits, heads, counts, ids, _ = views(records)
    for n in range(hfns.size):
        found = find(pointer(counts), order)
        index = lowest(pointer(bits), pointer(counts), found)
        take(pointer(bits), pointer(heads), pointer(counts), pointer(ids), index, found, order, owner, kind)
        hfns[n] = U(counts[_BASE] + index)


@njit(types.void(WORDS, INT, INT, INT, WORDS), cache=True, nogil=True)
def put_many(records, order, owner, kind, hfns):
    """Take the blocks `hfns` back, the last one first: what take_many gave goes back as it came."""
    bits, heads, counts, ids, _ = views(records)
    for n in range(hfns.size):
        index = np.int64(hfns[hfns.size - _I1 - n]) - counts[_BASE]
        put(pointer(bits), pointer(heads), pointer(counts), pointer(ids), index, order, owner, kind)


@njit(INT(WORDS, INT, INT, WORDS), cache=True, nogil=True)
def first_foreign(records, order, owner, hfns):
    """Return the position of the first of `hfns` that is not a block of the owner, or named before; else -1."""
    _, heads, counts, ids, _ = views(records)
    bad = np.int64(-1)
    seen = _I0
    while seen < hfns.size:
        # A number of 2**63 and more becomes negative: outside.
        index = np.int64(hfns[seen]) - counts[_BASE]
        if not owned(pointer(heads), pointer(counts), pointer(ids), index, order, owner):
            bad = seen
            break
        heads[index] |= _MARKED
        seen += _I1
    for n in range(seen):
        index = np.int64(hfns[n]) - counts[_BASE]
        heads[index] ^= _MARKED
    return bad


@njit(INT(WORDS, WORDS, INDICES), cache=True, nogil=True)
def first_written(records, memory, frames):
    """Return the position of the first index in `frames` that is not all poison, or -1."""
    _, _, counts, _, _ = views(records)
    for n in range(frames.size):
        if not poisoned(pointer(memory), (counts[_BASE] + frames[n]) * _PER_FRAME):
            return np.int64(n)
    return np.int64(-1)


@njit(types.void(WORDS, WORDS, INDICES, types.uint64), cache=True, nogil=True)
def fill_frames(records, memory, frames, word):
    """Set every word of the frames with these indices, all inside memory."""
    _, _, counts, _, _ = views(records)
    for n in range(frames.size):
        start = (counts[_BASE] + frames[n]) * _PER_FRAME
        memory[start : start + _PER_FRAME] = word


@njit(types.void(WORDS, INT, INT), cache=True, nogil=True)
def make_free(records, index, order):
    """Note a first block of a new pool."""
    bits, heads, counts, _, _ = views(records)
    heads[index] = _FREE | order
    set_free(pointer(bits), pointer(counts), order, index)
    counts[_INITIAL] += _I1


@njit(INT(WORDS, INT), cache=True, nogil=True)
def place(records, order):
    """Return the index of the block that the next one of `order` will be taken from; there is one."""
    bits, _, counts, _, _ = views(records)
    return lowest(pointer(bits), pointer(counts), find(pointer(counts), order))


@njit(types.void(WORDS, INT, INT, INT), cache=True, nogil=True)
def take_block(records, order, owner, kind):
    """Give the block at `place` to an owner; what it contains is done."""
    bits, heads, counts, ids, _ = views(records)
    tally = pointer(counts)
    found = find(tally, order)
    index = lowest(pointer(bits), tally, found)
    take(pointer(bits), pointer(heads), tally, pointer(ids), index, found, order, owner, kind)


@njit(types.void(WORDS, INT, INT, INT, INT), cache=True, nogil=True)
def put_block(records, index, order, owner, kind):
    """Take a block back from its owner; what it contains is done."""
    bits, heads, counts, ids, _ = views(records)
    put(pointer(bits), pointer(heads), pointer(counts), pointer(ids), index, order, owner, kind)


@njit(types.void(WORDS, INT, INT, INT, INT, INT), cache=True, nogil=True)
def give(records, index, old, old_kind, new, new_kind):
    """Make frame `index` another's; what it contains is done."""
    _, _, counts, ids, _ = views(records)
    change_owner(pointer(counts), pointer(ids), index, old, old_kind, new, new_kind)
