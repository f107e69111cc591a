"""What hooks call: a counted walk, a look-up in the modelled TLB, the recent pages that spare one, and the stop.

Each takes the pointer array that hooks get as their user data.
"""

import numpy as np

from quire.arch import LOW32, WORD, Access, Side
from quire.cpu.detail import Detail
from quire.cpu.soft._kernels_casts import USER, emu_stop, octets, shape_words, words
from quire.cpu.soft.state import RECENT_SLOTS, Pointer, Recent, SoftState, StopCode
from quire.kernels import carray, kernel, types
from quire.paging import Result, Status
from quire.paging._kernels_memo import walk_with_memo_from
from quire.tlb import TAG, TRANSLATION, TlbState
from quire.tlb._kernels import KIND_SHIFTS_ARRAY, fill, lookup, touch_entry
from quire.tlb.layout import SIDE_NUMBERS
from quire.tlb.nodes._kernels import COUNTER, walk_noting_nodes
from quire.tlb.nodes.references import NodeCounter
from quire.tlb.walker import Walker
from quire.tlb.walker._kernels import WALKER, size_of_shift, translation, walk_behind_caches

U = np.uint64

_N_STATE = len(SoftState)
_CLOCK, _CAPACITY, _GROWS = int(TlbState.CLOCK), int(TlbState.CAPACITY), int(TlbState.FULL)
_MARKS = int(TlbState.MARKS)
_P_STATE, _P_MEMORY, _P_CONTEXT = int(Pointer.STATE), int(Pointer.MEMORY), int(Pointer.CONTEXT)
_P_RESULT, _P_ENGINE, _P_TLB = int(Pointer.RESULT), int(Pointer.ENGINE), int(Pointer.TLB_ENTRIES)
_P_TLB_STATE, _P_SHAPES, _P_MEMO = int(Pointer.TLB_STATE), int(Pointer.TLB_SHAPES), int(Pointer.MEMO)
_P_PATH = int(Pointer.PATH)
_INDEX, _TAG = np.uint64(Recent.INDEX), np.uint64(Recent.TAG)
_COLUMNS = np.uint64(len(Recent))
_RECENT_MASK = np.uint64(RECENT_SLOTS - 1)
_WALKS, _DIRTY_WALKS = int(SoftState.WALKS), int(SoftState.DIRTY_WALKS)
_FAULTED, _GUEST_REFS = int(SoftState.FAULTED_WALKS), int(SoftState.GUEST_REFERENCES)
_HOST_REFS, _STOP, _DETAIL = int(SoftState.HOST_REFERENCES), int(SoftState.STOP), int(SoftState.DETAIL)
_SYNC_OFFSET, _EMITTED = int(SoftState.SKIP_SYNC_OFFSET), int(SoftState.EMITTED)
_NODES, _P_NODE_TABLE = int(SoftState.NODES), int(Pointer.NODE_TABLE)
_P_NODE_COUNTS, _P_LINES = int(Pointer.NODE_COUNTS), int(Pointer.LINES)
_R_HPA, _R_GSHIFT, _R_HSHIFT = int(Result.HPA), int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT)
_R_GLOBAL, _R_GREFS = int(Result.GLOBAL), int(Result.GUEST_REFERENCES)
_R_HREFS = int(Result.HOST_REFERENCES)
_FULL = U(Detail.FULL)
_WRITE, _FETCH = U(Access.WRITE), U(Access.FETCH)
_FETCH_SIDE, _LOAD_SIDE, _STORE_SIDE = (
    np.int64(SIDE_NUMBERS[s]) for s in (Side.FETCH, Side.LOAD, Side.STORE)
)
_OK = np.int64(Status.OK)
_S_GROWS = U(StopCode.TLB_GROWS)
_T_DIRTY, _T_FRAME = U(TRANSLATION.mask("dirty")), U(TRANSLATION.mask("frame"))
_KIND = U(TAG.shift("kind"))
_FAULTED_LOOKUP, _NOT_HELD = np.int64(-1), np.int64(-2)
_0, _1, _2 = (U(n) for n in (0, 1, 2))
_OFFSET = U(0xFFF)
_NONE = U(WORD)
_INDEX_MASK = np.int64(LOW32)


@kernel(types.void(USER))
def stop(user):
    """End the run behind a hook that does not leave the instruction: the engine computes the program counter again."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_SYNC_OFFSET]:
        octets(user[_P_ENGINE])[state[_SYNC_OFFSET]] = np.uint8(0)
    emu_stop(user[_P_ENGINE])


@kernel(WALKER(USER), inline="always")
def walker_of(user):
    """Return what a walk behind caches reads and writes."""
    return Walker(
        words(user[_P_MEMORY]),
        words(user[_P_CONTEXT]),
        words(user[_P_MEMO]),
        words(user[_P_RESULT]),
        words(user[_P_TLB]),
        words(user[_P_TLB_STATE]),
        shape_words(user[_P_SHAPES]),
        words(user[_P_PATH]),
    )


@kernel(COUNTER(USER), inline="always")
def counter_of(user):
    """Return what references are counted with by node."""
    return NodeCounter(octets(user[_P_NODE_TABLE]), words(user[_P_NODE_COUNTS]), words(user[_P_LINES]))


@kernel(types.int64(USER, types.uint64, types.uint64))
def counted_walk(user, gva, access):
    """Walk and count it; return the status. The result array holds the rest."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    result = words(user[_P_RESULT])
    if state[_NODES]:
        status = walk_noting_nodes(walker_of(user), gva, access, state[_DETAIL] == _FULL, counter_of(user))
    elif state[_DETAIL] == _FULL:
        status = walk_behind_caches(walker_of(user), gva, access)
    else:
        status = walk_with_memo_from(
            words(user[_P_MEMORY]), words(user[_P_CONTEXT]), words(user[_P_MEMO]), gva, access, result
        )
    state[_WALKS] += _1
    state[_GUEST_REFS] += result[_R_GREFS]
    state[_HOST_REFS] += result[_R_HREFS]
    if status != _OK:
        state[_FAULTED] += _1
    return status


@kernel(types.int64(USER, types.uint64, types.uint64))
def look_up(user, gva, access):
    """Send one access through the modelled TLB, walking on a miss.

    Return the index of its nearest entry, FAULTED_LOOKUP, or NOT_HELD when it was translated but no TLB takes it.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    result = words(user[_P_RESULT])
    entries, tlb_state = words(user[_P_TLB]), words(user[_P_TLB_STATE])
    shapes = shape_words(user[_P_SHAPES])
    side = _FETCH_SIDE if access == _FETCH else (_STORE_SIDE if access == _WRITE else _LOAD_SIDE)
    index = lookup(entries, tlb_state, shapes, gva, side)
    if index >= 0:
        index &= _INDEX_MASK
        if access != _WRITE or entries[_2 * tlb_state[_CAPACITY] + U(index)] & _T_DIRTY:
            return index
    if counted_walk(user, gva, access) != _OK:
        return _FAULTED_LOOKUP
    if index >= 0:
        state[_DIRTY_WALKS] += _1
    size = size_of_shift(min(result[_R_GSHIFT], result[_R_HSHIFT]))
    made, is_global = translation(result), result[_R_GLOBAL] != _0
    index = fill(entries, tlb_state, shapes, gva, side, size, is_global, made, index < 0)
    if tlb_state[_GROWS] and state[_STOP] == _0 and state[_EMITTED] == _0:
        state[_STOP] = _S_GROWS
        stop(user)
    return index if index >= 0 else _NOT_HELD


@kernel(types.void(USER, types.int64, types.uint64, types.uint64, types.int64))
def remember(user, array, key, page, index):
    """Note in recent-page array `array`, in the slot of `key`, that `page` is in TLB entry `index` (-1: nowhere)."""
    recent = words(user[array])
    slot = (key & _RECENT_MASK) * _COLUMNS
    recent[slot] = _NONE
    if index < 0:
        return
    recent[slot] = page
    recent[slot + _INDEX] = U(index)
    recent[slot + _TAG] = words(user[_P_TLB])[U(index)]


@kernel(types.boolean(USER, types.int64, types.uint64, types.uint64), inline="always")
def recall_page(user, array, key, page):
    """Whether `page` is where recent-page array `array` has it, by `key`; its entry is then used now."""
    recent = words(user[array])
    slot = (key & _RECENT_MASK) * _COLUMNS
    if recent[slot] != page:
        return False
    entries, tlb_state = words(user[_P_TLB]), words(user[_P_TLB_STATE])
    index = recent[slot + _INDEX]
    if entries[index] != recent[slot + _TAG]:
        return False
    tlb_state[_CLOCK] += _1
    if tlb_state[_MARKS]:
        touch_entry(entries, tlb_state, shape_words(user[_P_SHAPES]), np.int64(index))
    else:
        entries[tlb_state[_CAPACITY] + index] = tlb_state[_CLOCK]
    return True


@kernel(types.uint64(USER, types.uint64, types.int64))
def page_looked_up(user, gva, index):
    """Return the HPA of the page of `gva`, which :func:`look_up` found at `index`; all ones if that was a fault."""
    if index == _FAULTED_LOOKUP:
        return _NONE
    if index < 0:
        return words(user[_P_RESULT])[_R_HPA] & ~_OFFSET
    entries = words(user[_P_TLB])
    value = entries[_2 * words(user[_P_TLB_STATE])[_CAPACITY] + U(index)]
    inside = (_1 << KIND_SHIFTS_ARRAY[(entries[U(index)] >> _KIND) & U(7)]) - _1
    return (value & _T_FRAME & ~inside) | (gva & inside & ~_OFFSET)
