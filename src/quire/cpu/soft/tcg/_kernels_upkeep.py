"""What Python has done for the slots: the model brought up to date, and slots freed of pages that the model let go."""

import numpy as np
from numba import types

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import words
from quire.cpu.soft.state import Pointer
from quire.cpu.soft.tcg._kernels_raw import load64, user_at
from quire.cpu.soft.tcg._kernels_slots import give_up, leave_engine, note_use, word
from quire.cpu.soft.tcg.cells import SLOTS, Cell
from quire.kernels import callback
from quire.tlb import TAG, TlbState

U = np.uint64
_USER, _OWNERS = U(8 * Cell.USER), U(8 * Cell.OWNERS)
_TAGS, _ENTRIES = U(8 * Cell.TAGS), U(8 * Cell.ENTRIES)
_P_TLB, _P_TLB_STATE = int(Pointer.TLB_ENTRIES), int(Pointer.TLB_STATE)
_SPACE, _GLOBAL = int(TlbState.SPACE), int(TlbState.GLOBAL_SPACE)
_SPACE_SHIFT = U(TAG.shift("space"))
_NONE, _ALL_SLOTS = U(WORD), 2 * SLOTS


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


@callback(types.void(types.uint64))
def free_stale_slots(context):
    """Free the slots of pages that the model has dropped, or that belong to another address space than the current."""
    user = user_at(load64(context + _USER))
    state = words(user[_P_TLB_STATE])
    for slot in range(_ALL_SLOTS):
        if word(context, _OWNERS, U(slot)) != _NONE:
            tag = word(context, _TAGS, U(slot))
            space = tag >> _SPACE_SHIFT
            if words(user[_P_TLB])[word(context, _ENTRIES, U(slot))] != tag:
                leave_engine(context, U(slot))
            elif space != state[_SPACE] and space != state[_GLOBAL]:
                give_up(context, U(slot))
