"""The end of a slice; and what Python has done for the slots: the model told, slots freed of pages that it let go."""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import shape_words, words
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.cpu.soft.tcg._kernels_raw import ask_to_stop, load64, store64, user_at
from quire.cpu.soft.tcg._kernels_slots import give_up, leave_engine, note_use, word
from quire.cpu.soft.tcg.cells import PAIRS, SLOTS, Cell, Near
from quire.kernels import callback, carray, kernel, types
from quire.tlb import TAG, Shape, TlbState

U = np.uint64
_USER, _OWNERS = U(8 * Cell.USER), U(8 * Cell.OWNERS)
_TAGS, _ENTRIES = U(8 * Cell.TAGS), U(8 * Cell.ENTRIES)
_HEADS, _FOLLOWERS = U(8 * Cell.HEADS), U(8 * Cell.FOLLOWERS)
_PAIRS, _UNBOUNDED = U(8 * Cell.PAIRS), U(8 * Cell.UNBOUNDED)
_P_TLB, _P_TLB_STATE, _P_SHAPES = int(Pointer.TLB_ENTRIES), int(Pointer.TLB_STATE), int(Pointer.TLB_SHAPES)
_START, _SET_MASK, _WAYS = int(Shape.START), int(Shape.SET_MASK), int(Shape.WAYS)
_SPACE, _GLOBAL = int(TlbState.SPACE), int(TlbState.GLOBAL_SPACE)
_SPACE_SHIFT = U(TAG.shift("space"))
_NEAR, _N_SLICE, _N_BLOCK = U(8 * Cell.NEAR), U(Near.SLICE), U(Near.LAST_BLOCK)
_P_STATE, _N_STATE = int(Pointer.STATE), len(SoftState)
_STOP, _COUNT, _S_SLICE_ENDS = int(SoftState.STOP), int(SoftState.COUNT), U(StopCode.SLICE_ENDS)
_NONE, _8, _ALL_SLOTS, _DATA_PAIRS = U(WORD), U(8), 2 * SLOTS, 2 * PAIRS


@callback(types.void(types.uint64, types.int32))
def on_slice_end(context, number):
    """Called by a block that finds nothing left of the slice: end the run, unless an instruction runs alone."""
    near = load64(context + _NEAR)
    store64(near + _N_SLICE, U(0))
    state = carray(user_at(load64(context + _USER))[_P_STATE], (_N_STATE,), np.uint64)
    if state[_COUNT] == U(0):
        state[_STOP] = _S_SLICE_ENDS
        store64(near + _N_BLOCK, _NONE)  # the last block has run whole
        ask_to_stop(context)


@callback(types.void(types.uint64))
def note_uses(context):
    """Give the model all stamps that slots have."""
    for slot in range(_ALL_SLOTS):
        if word(context, _OWNERS, U(slot)) != _NONE:
            note_use(context, np.int64(word(context, _ENTRIES, U(slot))))


@callback(types.void(types.uint64))
def free_slots(context):
    """Free every slot: of pages that the model still holds, their use is noted."""
    user = user_at(load64(context + _USER))
    for slot in range(_ALL_SLOTS):
        if word(context, _OWNERS, U(slot)) != _NONE:
            if words(user[_P_TLB])[word(context, _ENTRIES, U(slot))] == word(context, _TAGS, U(slot)):
                give_up(context, U(slot))
            else:
                leave_engine(context, U(slot))


@kernel(types.void(types.uint64, types.uint64))
def free_if_stale(context, slot):
    """Free `slot` if the model has dropped its page, or if that belongs to another address space than the current."""
    user = user_at(load64(context + _USER))
    state, tag = words(user[_P_TLB_STATE]), word(context, _TAGS, slot)
    space = tag >> _SPACE_SHIFT
    if words(user[_P_TLB])[word(context, _ENTRIES, slot)] != tag:
        leave_engine(context, slot)
    elif space != state[_SPACE] and space != state[_GLOBAL]:
        give_up(context, slot)


@kernel(types.void(types.uint64))
def free_stale(context):
    """Free every slot that is stale. A first level with sets has fewer entries than there are slots."""
    if load64(context + _UNBOUNDED):
        for slot in range(_ALL_SLOTS):
            if word(context, _OWNERS, U(slot)) != _NONE:
                free_if_stale(context, U(slot))
        return
    shapes = shape_words(user_at(load64(context + _USER))[_P_SHAPES])
    for number in range(_DATA_PAIRS):
        pair = word(context, _PAIRS, U(number))
        if pair == _NONE:
            continue
        row = np.int64(pair >> _8)
        begin = shapes[row + _START]
        for entry in range(begin, begin + (shapes[row + _SET_MASK] + 1) * shapes[row + _WAYS]):
            slot = word(context, _HEADS, U(entry))
            while slot != _NONE:
                after = word(context, _FOLLOWERS, slot)
                free_if_stale(context, slot)
                slot = after
