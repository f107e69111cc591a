"""Compiled TLB lookups and insertions: structures of any geometry, whose sets the replacement kernels look after.

Pointers go in (see layout.py for what they point to); an index identifies an entry, -1 is a miss. The slow twin is
``reference.py``.
"""

import numpy as np

from quire.arch import WORD
from quire.kernels import kernel, types
from quire.paging._kernels_ept import WORDS
from quire.tlb._kernels_replacement import (
    LRU,
    SHAPES,
    choose,
    mark,
    move_to_front,
    oldest,
    scan,
)
from quire.tlb.layout import (
    KIND_SHIFTS,
    LEVELS,
    SIZES,
    TAG,
    TRANSLATION,
    Keeping,
    Kind,
    Shape,
    Shapes,
    TlbState,
)

U = np.uint64

KIND_SHIFTS_ARRAY = np.array(KIND_SHIFTS, np.uint64)
_KIND, _SPACE_SHIFT = U(TAG.shift("kind")), U(TAG.shift("space"))
_LINEAR = U((1 << 57) - 1)
_FRAME, _VALUE_REST = U(TRANSLATION.mask("frame")), U(~TRANSLATION.mask("frame") & WORD)
_START, _SET_MASK, _WAYS = int(Shape.START), int(Shape.SET_MASK), int(Shape.WAYS)
_POLICY, _SET_WORDS = int(Shape.POLICY), int(Shape.SET_WORDS)
_ROW, _ROWS = len(Shape), int(Shapes.ROWS)
_CLOCK, _SPACE, _GLOBAL_SPACE = int(TlbState.CLOCK), int(TlbState.SPACE), int(TlbState.GLOBAL_SPACE)
_GLOBALS, _LARGE, _EVICTIONS = int(TlbState.GLOBALS), int(TlbState.LARGE), int(TlbState.EVICTIONS)
_CAPACITY, _DEPTH = int(TlbState.CAPACITY), int(TlbState.DEPTH)
_LARGEST, _CONFLICTS = int(TlbState.LARGEST), int(TlbState.CONFLICTS)
_CONFLICT_GVA = int(TlbState.CONFLICT_GVA)
_PIECES, _WALK_SIZE, _PDE = int(TlbState.PIECES), U(TRANSLATION.shift("walk_size")), U(Kind.PDE)
_USED, _FULL, _MISSES = int(TlbState.USED), int(TlbState.FULL), int(TlbState.MISSES)
_WITHOUT_BOUND, _LISTED = np.int64(Keeping.UNBOUNDED), np.int64(Keeping.LISTED)
_N_LEVELS, _N_SIZES = np.int64(LEVELS), np.int64(SIZES)
_HASH = U(0x9E3779B97F4A7C15)
_0, _1, _2, _3, _4, _7, _15, _32 = (U(n) for n in (0, 1, 2, 3, 4, 7, 15, 32))
_I0, _I1, _I2 = np.int64(0), np.int64(1), np.int64(2)


@kernel(types.uint64(types.uint64, types.uint64, types.uint64), forceinline=True)
def make_tag(address, kind, space):
    """Return the tag of the entry of `kind` that covers `address` in address space `space`."""
    return ((address & _LINEAR) >> KIND_SHIFTS_ARRAY[kind]) | kind << _KIND | space << _SPACE_SHIFT


@kernel(types.void(WORDS, types.uint64, types.uint64), inline="always")
def count_piece(state, tag, value):
    """Count that an entry which is about to be made, if it is one, holds a part of a larger page."""
    kind = (tag >> _KIND) & _7
    if kind < _PDE and (value >> _WALK_SIZE) & _3 > kind:
        state[_PIECES] += _1


@kernel(types.int64(WORDS, SHAPES, types.int64, types.uint64))
def find_unbounded(entries, shapes, row, tag):
    """Return the entry of a table without bound that holds `tag`, else of the free one that ends its search."""
    mask = U(shapes[row + _SET_MASK])
    slot = ((tag * _HASH) >> _32) & mask
    start = shapes[row + _START]
    while entries[start + np.int64(slot)] != tag and entries[start + np.int64(slot)] != _0:
        slot = (slot + _1) & mask
    return start + np.int64(slot)


@kernel(types.int64(WORDS, SHAPES, types.int64, types.uint64), forceinline=True)
def find(entries, shapes, row, tag):
    """Return the entry of the structure at `row` that holds `tag`, or -1; nothing is touched."""
    ways = shapes[row + _WAYS]
    if shapes[row + _POLICY] == _WITHOUT_BOUND:
        index = find_unbounded(entries, shapes, row, tag)
        return index if entries[index] == tag else np.int64(-1)
    start = shapes[row + _START] + np.int64(tag & U(shapes[row + _SET_MASK])) * ways
    return scan(entries, start, ways, tag)


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64), forceinline=True)
def touch(entries, state, shapes, row, index, tag):
    """Note that entry `index` of the structure at `row`, which holds `tag`, was used now."""
    entries[np.int64(state[_CAPACITY]) + index] = state[_CLOCK]
    if shapes[row + _POLICY] == _LISTED:
        move_to_front(entries, state, shapes, row, index, tag & U(shapes[row + _SET_MASK]))
    else:
        mark(entries, state, shapes, row, index)


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64))
def touch_entry(entries, state, shapes, index):
    """Do what :func:`touch` does, for a caller that has no structure at hand."""
    row = np.int64(_ROWS)
    while index >= shapes[row + _START] + (shapes[row + _SET_MASK] + _I1) * shapes[row + _WAYS]:
        row += np.int64(_ROW)
    touch(entries, state, shapes, row, index, entries[index])


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64))
def probe(entries, state, shapes, row, tag):
    """Return the entry of the structure at `row` that holds `tag`, now used last, or -1."""
    found = find(entries, shapes, row, tag)
    if found >= 0:
        touch(entries, state, shapes, row, found, tag)
    return found


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.int64, types.uint64), forceinline=True)
def least_recent(entries, state, shapes, row, start, tag):
    """Return the entry of the set of `tag`, at `start`, that was used longest ago; free ones come first."""
    capacity = np.int64(state[_CAPACITY])
    if shapes[row + _POLICY] == _LISTED:
        at = np.int64(3) * capacity + shapes[row + _SET_WORDS] + np.int64(tag & U(shapes[row + _SET_MASK]))
        return start + np.int64((entries[at] >> (U(shapes[row + _WAYS] - _I1) << _2)) & _15)
    return oldest(entries, capacity + start, shapes[row + _WAYS]) - capacity


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.uint64), inline="always")
def count_fill(entries, state, shapes, row, tag):
    """Count that the set of `tag`, in the structure at `row`, takes an entry in."""
    mask = U(shapes[row + _SET_MASK])
    at = (
        np.int64(3) * np.int64(state[_CAPACITY])
        + shapes[row + _SET_WORDS]
        + np.int64(mask + _1 + (tag & mask))
    )
    entries[at] += _1


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64))
def insert_unbounded(entries, state, shapes, row, tag, value):
    """Put `tag` into a table without bound, which asks to grow when it is three quarters full."""
    index = find_unbounded(entries, shapes, row, tag)
    if entries[index] != tag:
        state[_USED] += _1
        if state[_USED] * U(4) > U(shapes[row + _SET_MASK]) * _3:
            state[_FULL] = _1
    capacity = np.int64(state[_CAPACITY])
    count_piece(state, tag, value)
    entries[index] = tag
    entries[capacity + index] = state[_CLOCK]
    entries[2 * capacity + index] = value
    return index


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64))
def insert(entries, state, shapes, row, tag, value):
    """Put `tag` into the structure at `row`: in place of itself, else of a free entry, else of the policy's choice."""
    policy = shapes[row + _POLICY]
    if policy == _WITHOUT_BOUND:
        return insert_unbounded(entries, state, shapes, row, tag, value)
    ways = shapes[row + _WAYS]
    start = shapes[row + _START] + np.int64(tag & U(shapes[row + _SET_MASK])) * ways
    victim = scan(entries, start, ways, tag)
    if victim < 0:
        count_fill(entries, state, shapes, row, tag)
        victim = least_recent(entries, state, shapes, row, start, tag)
        if entries[victim] != _0:
            state[_EVICTIONS] += _1
            victim = choose(entries, state, shapes, row, start, victim)
    count_piece(state, tag, value)
    entries[victim] = tag
    entries[2 * np.int64(state[_CAPACITY]) + victim] = value
    touch(entries, state, shapes, row, victim, tag)
    return victim


@kernel(types.int64(SHAPES, types.int64, types.int64, types.int64), inline="always")
def holder(shapes, side, level, size):
    """Return the row of the structure for pages of `size` at `level` of `side`, or -1."""
    number = shapes[(side * _N_LEVELS + level) * _N_SIZES + size]
    return number * np.int64(_ROW) + np.int64(_ROWS) if number >= 0 else number


@kernel(types.int64(WORDS, SHAPES, types.int64, types.int64, types.int64))
def held_size(state, shapes, side, level, size):
    """Return the size in which `level` of `side` holds a page of `size`: the largest that some structure takes."""
    held = min(size, np.int64(state[_LARGEST]))
    while held > 0 and holder(shapes, side, level, held) < 0:
        held -= 1
    return held


@kernel(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.int64, types.int64, types.uint64))
def probe_level(entries, state, shapes, gva, side, level, space):
    """Return the entry at `level` (0 is nearest) of `side` that translates `gva` in address space `space`, or -1."""
    found = np.int64(-1)
    sizes = _N_SIZES if state[_LARGE] else _I1
    for size in range(sizes):
        row = holder(shapes, side, level, np.int64(size))
        if row >= 0:
            found = probe(entries, state, shapes, row, make_tag(gva, U(size), space))
            if found >= 0:
                break
    return found


@kernel(types.int64(WORDS, WORDS, types.int64, types.uint64, types.uint64), forceinline=True)
def displace(entries, state, victim, tag, value):
    """Put `tag` where `victim` is, used last, and return that."""
    capacity = np.int64(state[_CAPACITY])
    if entries[victim] != _0:
        state[_EVICTIONS] += _1
    count_piece(state, tag, value)
    entries[victim] = tag
    entries[capacity + victim] = state[_CLOCK]
    entries[_I2 * capacity + victim] = value
    return victim


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), forceinline=True)
def insert_listed(entries, state, shapes, row, tag, value):
    """Put `tag`, which is not there, in place of the last of its set's list; the list turns by one."""
    mask, ways, capacity = shapes[row + _SET_MASK], shapes[row + _WAYS], np.int64(state[_CAPACITY])
    number = np.int64(tag & U(mask))
    at = np.int64(3) * capacity + shapes[row + _SET_WORDS] + number
    word, last = entries[at], U(ways - _I1) << _2
    way = word >> last
    entries[at] = ((word & ((_1 << last) - _1)) << _4) | way
    entries[at + mask + _I1] += _1
    victim = shapes[row + _START] + number * ways + np.int64(way)
    return displace(entries, state, victim, tag, value)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), forceinline=True)
def insert_stamped(entries, state, shapes, row, tag, value):
    """Put `tag`, which is not there, in place of the entry of its set with the least stamp."""
    capacity, ways = np.int64(state[_CAPACITY]), shapes[row + _WAYS]
    start = shapes[row + _START] + np.int64(tag & U(shapes[row + _SET_MASK])) * ways
    victim = oldest(entries, capacity + start, ways) - capacity
    count_fill(entries, state, shapes, row, tag)
    return displace(entries, state, victim, tag, value)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64))
def insert_absent(entries, state, shapes, row, tag, value):
    """Do what :func:`insert` does, for a `tag` that the structure at `row` is known not to hold."""
    policy = shapes[row + _POLICY]
    if policy == _LISTED:
        return insert_listed(entries, state, shapes, row, tag, value)
    if policy == LRU:
        return insert_stamped(entries, state, shapes, row, tag, value)
    return insert(entries, state, shapes, row, tag, value)


@kernel(
    types.int64(
        WORDS,
        WORDS,
        SHAPES,
        types.uint64,
        types.int64,
        types.int64,
        types.uint64,
        types.uint64,
        types.boolean,
    )
)
def hold(entries, state, shapes, gva, side, level, tag, value, absent):
    """Put the page of `tag` into `level` of `side`, whole or the piece that `gva` is in; return its entry, or -1.

    `absent`: it is known not to be there.
    """
    size = np.int64((tag >> _KIND) & _7)
    held = held_size(state, shapes, side, level, size)
    row = holder(shapes, side, level, held)
    if row < 0:
        return np.int64(-1)
    if held != size:
        inside = ((_1 << KIND_SHIFTS_ARRAY[size]) - _1) & ~((_1 << KIND_SHIFTS_ARRAY[held]) - _1)
        value = (value & _VALUE_REST) | (((value & _FRAME) & ~inside) | (gva & inside))
        tag = make_tag(gva, U(held), tag >> _SPACE_SHIFT)
    if held:
        state[_LARGE] += _1
    if absent:
        return insert_absent(entries, state, shapes, row, tag, value)
    return insert(entries, state, shapes, row, tag, value)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.uint64, types.int64))
def lookup(entries, state, shapes, gva, side):
    """Look `gva` up for an access of `side` (0 fetch, 1 load, 2 store).

    Return its entry's index, plus 2**32 for each level that missed before one hit and gave a copy to those nearer; -1
    is a miss of all.
    """
    state[_CLOCK] += _1
    depth = np.int64(state[_DEPTH])
    for level in range(depth):
        found = probe_level(entries, state, shapes, gva, side, np.int64(level), state[_SPACE])
        if found < 0 and state[_GLOBALS]:
            found = probe_level(entries, state, shapes, gva, side, np.int64(level), state[_GLOBAL_SPACE])
        if found >= 0:
            tag = entries[found]
            value = entries[2 * np.int64(state[_CAPACITY]) + found]
            for nearer in range(level):
                at = np.int64(level - 1 - nearer)
                copied = hold(entries, state, shapes, gva, side, at, tag, value, True)
                if copied >= 0:
                    found = copied
            return found + (np.int64(level) << np.int64(32))
        state[_MISSES + side * _N_LEVELS + level] += _1
    if depth == 0:
        state[_MISSES + side * _N_LEVELS] += _1
    return np.int64(-1)


@kernel(types.void(WORDS, WORDS, SHAPES, types.uint64, types.int64, types.uint64))
def note_conflict(entries, state, shapes, gva, side, tag):
    """Count it if the page of `tag` is held with another size already (SDM 3A §4.10.2.3)."""
    space = tag >> _SPACE_SHIFT
    for level in range(np.int64(state[_DEPTH])):
        held = held_size(state, shapes, side, np.int64(level), np.int64((tag >> _KIND) & _7))
        for other in range(_N_SIZES):
            row = holder(shapes, side, np.int64(level), np.int64(other))
            if other != held and row >= 0 and find(entries, shapes, row, make_tag(gva, U(other), space)) >= 0:
                state[_CONFLICTS] += _1
                state[_CONFLICT_GVA] = gva
                return


@kernel(
    types.int64(
        WORDS,
        WORDS,
        SHAPES,
        types.uint64,
        types.int64,
        types.uint64,
        types.boolean,
        types.uint64,
        types.boolean,
    )
)
def fill(entries, state, shapes, gva, side, size, is_global, value, absent):
    """Insert the translation of `gva` into every level of `side`; `size` of the page that both dimensions share.

    `absent`: a look-up has just missed. Returns the index of the nearest entry, -1 when no structure takes it.
    """
    space = state[_SPACE]
    if is_global:
        space = state[_GLOBAL_SPACE]
        state[_GLOBALS] += _1
    tag = make_tag(gva, size, space)
    if state[_LARGE] or size:
        note_conflict(entries, state, shapes, gva, side, tag)
    index = np.int64(-1)
    depth = np.int64(state[_DEPTH])
    for n in range(depth):
        held = hold(entries, state, shapes, gva, side, depth - _I1 - n, tag, value, absent)
        if held >= 0:
            index = held
    return index
