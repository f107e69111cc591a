"""Compiled allocation: single frames whole, with what they contain, and batches.

Arrays and scalars in, a frame number or a `Step` out. Callers have checked orders and owners; a frame number is
compared with the pool's range and with the size of memory before it indexes anything. The slow twin is
``reference.py``.
"""

import numpy as np

from quire.kernels import kernel, types
from quire.memory._kernels_buddy import (
    BITS,
    HEADS,
    INT,
    OWNED,
    TALLY,
    WORDS,
    bits_of,
    counts_of,
    find,
    heads_of,
    ids_of,
    join,
    lowest,
    pointer,
    split,
    states_of,
)
from quire.memory.host import WORDS_PER_FRAME
from quire.memory.layout import (
    ALLOCATED_BYTE,
    FREED_BYTE,
    TAKEN,
    Content,
    Count,
    Handling,
    Step,
)
from quire.memory.owner import FREE_ID

U = np.uint64

_BASE, _FIRST, _END = np.int64(Count.BASE), np.int64(Count.FIRST), np.int64(Count.END)
_ALLOCATIONS, _FREES = np.int64(Count.ALLOCATIONS), np.int64(Count.FREES)
_PEAK = np.int64(Count.PEAK)
_KINDS, _HELD = np.int64(Count.KINDS), np.int64(Count.HELD)
_EXHAUSTED, _LOOK, _REFUSED = np.int64(Step.EXHAUSTED), np.int64(Step.LOOK), np.int64(Step.REFUSED)
_NUMBERS, _ZERO = np.int64(Handling.NUMBERS), np.int64(Handling.ZERO)
_POISON, _DONE, _ASK = np.int64(Handling.POISON), np.int64(Handling.DONE), np.int64(Handling.ASK)
_POISONED, _STALE = np.int64(Content.POISONED), np.int64(Content.STALE)
_LIVE = np.int64(Content.LIVE)
_TAKEN, _FREE_ID = np.int64(TAKEN), np.int64(FREE_ID)
_PER_FRAME = np.int64(WORDS_PER_FRAME)
_FREED_WORD = U(int.from_bytes(bytes([FREED_BYTE]) * 8, "little"))
_ALLOCATED_WORD = U(int.from_bytes(bytes([ALLOCATED_BYTE]) * 8, "little"))
_0, _I0, _I1 = U(0), np.int64(0), np.int64(1)


@kernel(types.void(TALLY, INT, INT, INT, INT))
def move(counts, frames, kind, owner, sign):
    """Count `frames` for an owner (`sign` 1) or no more (-1); FREE has the rest."""
    counts[_KINDS + kind] += sign * frames
    counts[_HELD + owner] += sign * frames
    counts[_KINDS] -= sign * frames
    counts[_HELD] -= sign * frames


@kernel(types.void(BITS, HEADS, TALLY, OWNED, INT, INT, INT, INT, INT))
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


@kernel(types.void(BITS, HEADS, TALLY, OWNED, INT, INT, INT, INT))
def put(bits, heads, counts, ids, index, order, owner, kind):
    """Take a block back from its owner, all records included but the contents."""
    frames = _I1 << order
    for frame in range(index, index + frames):
        ids[frame] = _FREE_ID
    join(bits, heads, counts, index, order)
    move(counts, frames, kind, owner, -_I1)
    counts[_FREES] += _I1


@kernel(types.boolean(BITS, INT))
def poisoned(memory, start):
    """Whether the frame whose first word is `start` is all poison."""
    wrong = _0
    for word in range(start, start + _PER_FRAME):
        wrong |= memory[word] ^ _FREED_WORD
    return wrong == _0


@kernel(types.boolean(HEADS, WORDS, TALLY, INT, INT))
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


@kernel(types.boolean(HEADS, WORDS, TALLY, INT, INT))
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


@kernel(types.boolean(HEADS, TALLY, OWNED, INT, INT, INT))
def owned(heads, counts, ids, index, order, owner):
    """Whether `index` starts a taken block of `order` that is the owner's."""
    inside = counts[_FIRST] <= index and index < counts[_END]
    return inside and heads[index] == _TAKEN | order and ids[index] == owner


@kernel(INT(WORDS, WORDS, INT, INT, INT, INT, INT))
def allocate(records, memory, order, owner, kind, way, reserved):
    """Give a block to an owner, if so many more than `reserved` frames are free: its number, EXHAUSTED or LOOK.

    ASK gives the number and changes nothing; of a block of several frames, only DONE and NUMBERS take it.
    """
    counts = counts_of(records)
    bits = bits_of(records, counts)
    states = states_of(records, counts)
    found = find(counts, order)
    frames = _I1 << order
    if found < _I0 or counts[_KINDS] - frames < reserved:
        return _EXHAUSTED
    index = lowest(bits, counts, found)
    if way == _ASK:
        return counts[_BASE] + index
    if order == _I0 and way != _DONE:
        if not prepare(states, memory, counts, index, way):
            return _LOOK
    elif way == _NUMBERS:
        for frame in range(index, index + frames):
            states[frame] = _LIVE
    elif way != _DONE:
        return _LOOK
    take(bits, heads_of(records, counts), counts, ids_of(records, counts), index, found, order, owner, kind)
    return counts[_BASE] + index


@kernel(INT(WORDS, WORDS, INT, INT, INT, INT, INT))
def free(records, memory, hfn, order, owner, kind, way):
    """Take a block back from its owner: 0, REFUSED or LOOK. Of a block of several frames, only DONE takes it."""
    counts = counts_of(records)
    heads = heads_of(records, counts)
    ids = ids_of(records, counts)
    index = hfn - counts[_BASE]
    if not owned(heads, counts, ids, index, order, owner):
        return _REFUSED
    if way != _DONE and (order != _I0 or not retire(states_of(records, counts), memory, counts, index, way)):
        return _LOOK
    put(bits_of(records, counts), heads, counts, ids, index, order, owner, kind)
    return _I0
