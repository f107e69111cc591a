"""Compiled replay: a loop over records with the nearest TLB's scan in line, everything else by the room's kernels."""

import numpy as np

from quire.arch import LOW32, PTE, WORD, Access, Replacement, Side
from quire.kernels import kernel, types
from quire.paging._kernels_ept import WORDS, pointer
from quire.paging.context import MEMO_SLOTS, Context, Memo, Result, Status
from quire.tlb._kernels import (
    SHAPES,
    fill,
    find,
    holder,
    insert_listed,
    insert_stamped,
    lookup,
    make_tag,
    touch,
)
from quire.tlb._kernels_replacement import scan
from quire.tlb.layout import LEVELS, SIDE_NUMBERS, TAG, TRANSLATION, Keeping, Shape, TlbState
from quire.tlb.walker._kernels import WALKER, size_of_shift, translation, walk_behind_caches
from quire.tlb.walker._kernels_arrays import WALKER_OF_ARRAYS, pointers
from quire.trace.record import RECORD
from quire.trace.walks import WalkCount

U = np.uint64
ARRAY = types.uint64[::1]
SHAPE_ARRAY = types.int64[::1]

_SIDE, _SIDE_HIGH, _GVA = U(RECORD.shift("side")), U(RECORD.shift("side") + 1), U(RECORD.mask("gva"))
_STRAY, _HIGH_SIDE = U(~RECORD.mask("gva", "side") & WORD), U(1 << RECORD.shift("side"))
_START, _SET_MASK, _WAYS = int(Shape.START), int(Shape.SET_MASK), int(Shape.WAYS)
_POLICY = int(Shape.POLICY)
_CLOCK, _SPACE, _GLOBALS = int(TlbState.CLOCK), int(TlbState.SPACE), int(TlbState.GLOBALS)
_LARGE, _CAPACITY, _DEPTH = int(TlbState.LARGE), int(TlbState.CAPACITY), int(TlbState.DEPTH)
_FULL = int(TlbState.FULL)
_PAGE, _LOOKUPS, _MISSES = int(TlbState.REPLAY_PAGE), int(TlbState.LOOKUPS), int(TlbState.MISSES)
_N_LEVELS, _PAGES = np.int64(LEVELS), U(TAG.mask("page"))
_LRU, _LISTED = np.int64(Replacement.LRU.number), np.int64(Keeping.LISTED)
_DIRTY = U(TRANSLATION.mask("dirty"))
_R_GSHIFT, _R_HSHIFT = int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT)
_R_GLOBAL, _R_GREFS = int(Result.GLOBAL), int(Result.GUEST_REFERENCES)
_R_HREFS = int(Result.HOST_REFERENCES)
_ADDRESS, _PTE_OFFSET = U(PTE.mask("addr")), U(0xFF8)
_MEMO_MASK, _HOST_HALF = U(MEMO_SLOTS - 1), U(MEMO_SLOTS * 4)
_C_EPTP, _C_BYTES = int(Context.EPTP), int(Context.MEMORY_BYTES)
_OK = np.int64(Status.OK)
_0, _1, _2, _3, _5, _6, _7, _9, _12, _21 = (U(n) for n in (0, 1, 2, 3, 5, 6, 7, 9, 12, 21))
_I0, _I1 = np.int64(0), np.int64(1)
_FETCH_SIDE, _LOAD_SIDE, _STORE = (np.int64(SIDE_NUMBERS[s]) for s in (Side.FETCH, Side.LOAD, Side.STORE))
_READ_ACCESS, _WRITE_ACCESS, _FETCH_ACCESS = U(Access.READ), U(Access.WRITE), U(Access.FETCH)
_INDEX_MASK = np.int64(LOW32)
_AHEAD = np.int64(32)
_WALKS, _FAULTED, _AHEAD_WORD = int(WalkCount.WALKS), int(WalkCount.FAULTED), int(WalkCount.AHEAD)
_OF_GUEST, _OF_HOST = int(WalkCount.GUEST_REFERENCES), int(WalkCount.HOST_REFERENCES)
_M_TABLE = U(Memo.TABLE)


@kernel(types.int64(ARRAY, ARRAY))
def count_records(state, stream):
    """Add to the look-ups of each side, or return the number of the first word that is no record; -1 if all are.

    No record has a bit that no field has, or side 3.
    """
    stray, loads, stores = _0, _0, _0
    for n in range(stream.size):
        record = stream[n]
        stray |= (record & _STRAY) | (record & (record >> _1) & _HIGH_SIDE)
        loads += (record >> _SIDE) & _1
        stores += (record >> _SIDE_HIGH) & _1
    if stray == _0:
        state[_LOOKUPS + _FETCH_SIDE] += U(stream.size) - loads - stores
        state[_LOOKUPS + _LOAD_SIDE] += loads
        state[_LOOKUPS + _STORE] += stores
        return np.int64(-1)
    n = 0
    while stream[n] & _STRAY == _0 and stream[n] & (stream[n] >> _1) & _HIGH_SIDE == _0:
        n += 1
    return np.int64(n)


@kernel(types.boolean(SHAPES, types.int64))
def is_plain(shapes, side):
    """Whether `side` has two levels that hold 4 KiB pages, both with LRU replacement, the nearer by stamps."""
    first, second = holder(shapes, side, _I0, _I0), holder(shapes, side, _I1, _I0)
    if first < 0 or second < 0 or shapes[first + _POLICY] != _LRU:
        return False
    return shapes[second + _POLICY] == _LRU or shapes[second + _POLICY] == _LISTED


@kernel(types.uint64(SHAPES))
def sharing_sides(shapes):
    """Return a bit for each two sides, 3 * one + other, whose nearest TLBs are one; a side without any has its own bit.

    What one of them looks up may take the last page of the other from its place.
    """
    found = _0
    for side in range(3):
        if holder(shapes, side, _I0, _I0) < 0:
            found |= _1 << U(4 * side)
        for other in range(3):
            for size in range(3):
                row = holder(shapes, side, _I0, np.int64(size))
                if other != side and row >= 0 and row == holder(shapes, other, _I0, np.int64(size)):
                    found |= _1 << U(3 * side + other)
    return found


@kernel(types.uint64(types.uint64, types.uint64, types.uint64, types.uint64), inline="always")
def still(last, page, sharing, bit):
    """Return `last`, a side's last page + 1, or 0 if another one that shares its TLB now looks up `page`."""
    return last if (sharing >> bit) & _1 == _0 or last == page else _0


@kernel(types.void(WORDS, types.uint64, types.int64, types.uint64))
def note_page(state, sharing, side, page):
    """Note that `side` looks `page` (+ 1) up: the next such look-up is a hit that changes nothing."""
    for other in range(3):
        bit = U(3 * side + other)
        state[_PAGE + other] = still(state[_PAGE + other], page, sharing, bit)
    state[_PAGE + side] = page if (sharing >> U(4 * side)) & _1 == _0 else _0


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64), forceinline=True)
def find_second(entries, state, shapes, side, tag):
    """Return the entry of the second of two LRU levels that holds `tag`, now used last, or -1; the first has missed."""
    row = holder(shapes, side, _I1, _I0)
    state[_MISSES + side * _N_LEVELS] += _1
    found = find(entries, shapes, row, tag)
    if found >= 0:
        touch(entries, state, shapes, row, found, tag)
    else:
        state[_MISSES + side * _N_LEVELS + _I1] += _1
    return found


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), forceinline=True)
def insert_first(entries, state, shapes, side, tag, value):
    """Put `tag`, which is not there, into the first of two LRU levels; return its entry."""
    return insert_stamped(entries, state, shapes, holder(shapes, side, _I0, _I0), tag, value)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), forceinline=True)
def insert_both(entries, state, shapes, side, tag, value):
    """Put `tag`, which neither holds, into two LRU levels; return the nearer entry."""
    row = holder(shapes, side, _I1, _I0)
    if shapes[row + _POLICY] == _LISTED:
        insert_listed(entries, state, shapes, row, tag, value)
    else:
        insert_stamped(entries, state, shapes, row, tag, value)
    return insert_first(entries, state, shapes, side, tag, value)


@kernel(types.void(WORDS, WORDS, SHAPES, types.int64, types.uint64, types.uint64), forceinline=True)
def miss_plain(entries, state, shapes, side, tag, clock):
    """Deal with a page that the first of two LRU levels of `side` misses: second level, copy or fill."""
    state[_CLOCK] = clock
    if find_second(entries, state, shapes, side, tag) >= 0:
        insert_first(entries, state, shapes, side, tag, (tag & _PAGES) << _12)
    else:
        insert_both(entries, state, shapes, side, tag, (tag & _PAGES) << _12)


@kernel(types.int64(WORDS, WORDS, SHAPES, types.int64, types.uint64), forceinline=True)
def lookup_plain(entries, state, shapes, side, tag):
    """Do what :func:`lookup` does, for two LRU levels with nothing in them but pages of 4 KiB of the current space."""
    state[_CLOCK] += _1
    row, capacity = holder(shapes, side, _I0, _I0), np.int64(state[_CAPACITY])
    ways = shapes[row + _WAYS]
    start = shapes[row + _START] + np.int64(tag & U(shapes[row + _SET_MASK])) * ways
    found = scan(entries, start, ways, tag)
    if found >= 0:
        entries[capacity + found] = state[_CLOCK]
        return found
    found = find_second(entries, state, shapes, side, tag)
    if found < 0:
        return found
    value = entries[2 * capacity + found]
    return insert_first(entries, state, shapes, side, tag, value) + (_I1 << np.int64(32))


@kernel(types.boolean(WORDS, SHAPES))
def are_plain(state, shapes):
    """Whether each side has two LRU levels with nothing in them but pages of 4 KiB of the current space."""
    plain = state[_LARGE] | state[_GLOBALS] == _0 and state[_DEPTH] == _2
    for side in range(3):
        plain = plain and is_plain(shapes, np.int64(side))
    return plain


@kernel(types.int64(WORDS, WORDS, SHAPES, WORDS, types.int64, types.int64))
def replay_plain(entries, state, shapes, stream, first, end):
    """Replay records through two LRU levels with nothing in them but pages of 4 KiB of the current space."""
    capacity, clock = np.int64(state[_CAPACITY]), state[_CLOCK]
    space = make_tag(_0, _0, state[_SPACE])
    rows = (
        holder(shapes, _FETCH_SIDE, _I0, _I0),
        holder(shapes, _LOAD_SIDE, _I0, _I0),
        holder(shapes, _STORE, _I0, _I0),
    )
    fetched, loaded = state[_PAGE + _FETCH_SIDE], state[_PAGE + _LOAD_SIDE]
    stored = state[_PAGE + _STORE]
    sharing = sharing_sides(shapes)
    for n in range(first, end):
        record = stream[n]
        side = record >> _SIDE
        page = (record & _GVA) >> _12
        if page + _1 == (fetched if side == _0 else (loaded if side == _1 else stored)):
            continue
        if side == _0:
            fetched = page + _1
            loaded, stored = still(loaded, fetched, sharing, _1), still(stored, fetched, sharing, _2)
        elif side == _1:
            loaded = page + _1
            fetched, stored = still(fetched, loaded, sharing, _3), still(stored, loaded, sharing, _5)
        else:
            stored = page + _1
            fetched, loaded = still(fetched, stored, sharing, _6), still(loaded, stored, sharing, _7)
        clock += _1
        row = rows[np.int64(side)]
        ways = shapes[row + _WAYS]
        start = shapes[row + _START] + np.int64(page & U(shapes[row + _SET_MASK])) * ways
        found = scan(entries, start, ways, page | space)
        if found >= 0:
            entries[capacity + found] = clock
        else:
            miss_plain(entries, state, shapes, np.int64(side), page | space, clock)
    state[_PAGE + _FETCH_SIDE], state[_PAGE + _LOAD_SIDE] = fetched, loaded
    state[_PAGE + _STORE] = stored
    state[_CLOCK] = clock
    return end


@kernel(types.int64(WORDS, WORDS, SHAPES, WORDS, types.int64, types.int64))
def replay_tags_from(entries, state, shapes, stream, first, end):
    """Replay records from number `first` on, every page of 4 KiB and translated; return how many are done.

    Fewer than all are done when a table without bound has to grow.
    """
    if are_plain(state, shapes):
        return replay_plain(entries, state, shapes, stream, first, end)
    sharing = sharing_sides(shapes)
    for n in range(first, end):
        record = stream[n]
        side, gva = np.int64(record >> _SIDE), record & _GVA
        if (gva >> _12) + _1 == state[_PAGE + side]:
            continue
        note_page(state, sharing, side, (gva >> _12) + _1)
        if lookup(entries, state, shapes, gva, side) >= 0:
            continue
        if fill(entries, state, shapes, gva, side, _0, False, (gva >> _12) << _12, True) < 0:
            state[_PAGE + side] = _0
        if state[_FULL]:
            return np.int64(n) + _I1
    return end


@kernel(types.int64(ARRAY, ARRAY, SHAPE_ARRAY, ARRAY, types.int64))
def replay_tags(entries, state, shapes, stream, first):
    """Do what :func:`replay_tags_from` does, for a caller that has arrays."""
    return replay_tags_from(
        pointer(entries), pointer(state), pointer(shapes), pointer(stream), first, np.int64(stream.size)
    )


@kernel(types.uint64(WORDS, WORDS, WORDS, types.uint64, types.uint64))
def touch_ahead(memory, context, memo, gva, limit):
    """Load the two entries that the memo says a walk of `gva` will read, so that their cache misses overlap."""
    region = gva >> _21
    slot = (region & _MEMO_MASK) << _2
    at = memo[slot + _M_TABLE] + ((gva >> _9) & _PTE_OFFSET)
    if at >= limit:
        return _0
    entry = memory[at >> _3]
    if context[_C_EPTP] == _0:
        return entry
    gpa = entry & _ADDRESS
    slot = _HOST_HALF + (((gpa >> _21) & _MEMO_MASK) << _2)
    at = memo[slot + _M_TABLE] + ((gpa >> _9) & _PTE_OFFSET)
    return memory[at >> _3] if at < limit else _0


@kernel(types.int64(WALKER, WORDS, types.int64, types.int64, WORDS))
def replay_and_walk_from(walker, stream, first, end, counts):
    """Replay records from number `first` on, walking on each miss; return how many are done.

    `counts` are those of :class:`WalkCount`.
    """
    entries, state, shapes, result = walker.entries, walker.state, walker.shapes, walker.result
    memory, context, memo = walker.memory, walker.context, walker.memo
    limit, sharing, plain = context[_C_BYTES], sharing_sides(shapes), are_plain(state, shapes)
    space = make_tag(_0, _0, state[_SPACE])
    for n in range(first, end):
        if (n - first) % _AHEAD == 0:
            ahead = _0
            for m in range(n, min(n + _AHEAD, end)):
                ahead ^= touch_ahead(memory, context, memo, stream[m] & _GVA, limit)
            counts[_AHEAD_WORD] ^= ahead
        record = stream[n]
        side = np.int64(record >> _SIDE)
        gva = record & _GVA
        page = (gva >> _12) + _1
        if page == state[_PAGE + side]:
            continue
        note_page(state, sharing, side, page)
        tag = (gva >> _12) | space
        if plain:  # noqa: SIM108 - a line each
            index = lookup_plain(entries, state, shapes, side, tag)
        else:
            index = lookup(entries, state, shapes, gva, side)
        if index >= 0:
            value = entries[_2 * state[_CAPACITY] + U(index & _INDEX_MASK)]
            if side != _STORE or value & _DIRTY:
                continue
        access = _FETCH_ACCESS if side == _FETCH_SIDE else (_WRITE_ACCESS if side == _STORE else _READ_ACCESS)
        whole = U(np.int64(gva << _7) >> np.int64(7))  # bit 56 is the sign
        status = walk_behind_caches(walker, whole, access)
        counts[_WALKS] += _1
        counts[_OF_GUEST] += result[_R_GREFS]
        counts[_OF_HOST] += result[_R_HREFS]
        if status != _OK:
            counts[_FAULTED] += _1
            state[_PAGE + side] = _0
            continue
        size = size_of_shift(min(result[_R_GSHIFT], result[_R_HSHIFT]))
        made, is_global = translation(result), result[_R_GLOBAL] != _0
        if plain and index < 0 and not is_global and size == _0:
            held = insert_both(entries, state, shapes, side, tag, made)
        else:
            held = fill(entries, state, shapes, gva, side, size, is_global, made, index < 0)
            plain = plain and state[_LARGE] | state[_GLOBALS] == _0
        if held < 0:
            state[_PAGE + side] = _0
        if state[_FULL]:
            return np.int64(n) + _I1
    return end


@kernel(types.int64(WALKER_OF_ARRAYS, ARRAY, types.int64, ARRAY))
def replay_and_walk(walker, stream, first, counts):
    """Do what :func:`replay_and_walk_from` does, for a caller that has arrays."""
    end = np.int64(stream.size)
    return replay_and_walk_from(pointers(walker), pointer(stream), first, end, pointer(counts))
