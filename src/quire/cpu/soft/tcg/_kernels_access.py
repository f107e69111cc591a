"""Accesses that the engine's own TLB does not answer, and fetches from another page: these alone reach the model.

What stands for the library's functions of a missed access lets the access happen, or does it with a kept entry of the
engine's TLB; the model is asked afterwards, for an access that faults is none. The model's clock is then what it would
be with every access before this one looked up one by one.
"""

import numpy as np

from quire.arch import WORD, Access
from quire.cpu.soft._kernels_casts import shape_words, words
from quire.cpu.soft._kernels_lookups import look_up, recall_page, remember
from quire.cpu.soft.state import Pointer, SoftState
from quire.cpu.soft.tcg._kernels_raw import ask_to_stop, call3, do1, load64, store64, user_at
from quire.cpu.soft.tcg._kernels_slots import (
    bring_up_to_date,
    drop_changed,
    give_up,
    set_start,
    take_slot,
    word,
)
from quire.cpu.soft.tcg.cells import PAIRS, SIDE_SLOTS, SLOTS, Cell, Near, Record, Saved
from quire.cpu.soft.tcg.offsets import Offset
from quire.kernels import callback, carray, kernel, types
from quire.tlb import TRANSLATION, Shape, TlbState

U = np.uint64
_WORD = types.uint64

_C = {cell: U(8 * cell) for cell in Cell}
_USER, _NEAR, _RECORDS = _C[Cell.USER], _C[Cell.NEAR], _C[Cell.RECORDS]
_SAVED, _EPOCH, _SPLIT = _C[Cell.SAVED], _C[Cell.EPOCH], _C[Cell.SPLIT]
_PAIRS, _OWNERS, _ENTRIES = _C[Cell.PAIRS], _C[Cell.OWNERS], _C[Cell.ENTRIES]
_LOOK_UP, _PRIVILEGE = _C[Cell.LOOK_UP], _C[Cell.PRIVILEGE]
_N_CLOCK, _N_FETCH, _N_BLOCK = U(Near.CLOCK), U(Near.LAST_FETCH), U(Near.LAST_BLOCK)
_N_STAMPS = U(Near.STAMPS)
_R_WORDS, _R_PC, _R_SIZE = U(8 * Record.WORDS), U(8 * Record.PC), U(8 * Record.SIZE)
_R_ACCESSES = U(8 * Record.ACCESSES)
_S_WORDS, _S_MASK = U(8 * Saved.WORDS), U(SIDE_SLOTS - 1)
_RIGHTS, _ADDEND, _HPA, _IO = (U(8 * part) for part in (Saved.RIGHTS, Saved.ADDEND, Saved.HPA, Saved.IO))
_P_STATE, _P_TLB, _P_TLB_STATE = int(Pointer.STATE), int(Pointer.TLB_ENTRIES), int(Pointer.TLB_STATE)
_P_FETCH, _P_SHAPES = int(Pointer.RECENT_FETCH), int(Pointer.TLB_SHAPES)
_N_STATE, _WAYS = len(SoftState), int(Shape.WAYS)
_SPLITS, _FETCH_PAGES = int(SoftState.SPLITS), int(SoftState.FETCH_PAGES)
_LARGE, _SMALL = int(TlbState.LARGE), U(12)
_T_CLOCK, _CAPACITY, _GROWS = int(TlbState.CLOCK), int(TlbState.CAPACITY), int(TlbState.FULL)
_DIRTY = U(TRANSLATION.mask("dirty"))
_READ, _WRITE, _FETCH = U(Access.READ), U(Access.WRITE), U(Access.FETCH)
_TLB, _TLB_REST = U(Offset.ENV_TLB & WORD), U(Offset.ENV_TLB_REST & WORD)
_REST_SIZE, _TLB_IO = U(Offset.TLB_REST_SIZE), U(Offset.TLB_IO)
_SLOTS, _SLOT_MASK, _N_PAIRS = U(SLOTS), U(SLOTS - 1), U(PAIRS)
_0, _1, _2, _3, _4, _6, _8 = (U(n) for n in (0, 1, 2, 3, 4, 6, 8))
_12, _16, _24, _32, _45, _47 = (U(n) for n in (12, 16, 24, 32, 45, 47))
_PAGE_MASK, _PAGE = U((1 << 45) - 1), U(4096)
_OFFSET, _SHIFT_MASK, _FLAGS = U(0xFFF), U(0xFF), U(~0x7FF & WORD)
_NONE = U(WORD)


@kernel(types.void(_WORD, _WORD, _WORD, types.boolean, types.boolean))
def pass_sets(context, gva, access, large, before):
    """Have the sets that a look-up may change learn what slots have of them, `before` it; free changed slots behind it.

    Unless there are `large` pages, none of them has a slot.
    """
    shapes = shape_words(user_at(load64(context + _USER))[_P_SHAPES])
    for number in range(PAIRS):
        pair = word(context, _PAIRS, access * _N_PAIRS + U(number))
        if pair == _NONE:
            break
        shift, row = pair & _SHIFT_MASK, np.int64(pair >> _8)
        if shift != _SMALL and not large:
            continue
        start = set_start(context, row, shift, gva)
        if before:
            bring_up_to_date(context, row, start)
        else:
            for entry in range(start, start + shapes[row + _WAYS]):
                drop_changed(context, np.int64(entry))


@callback(types.uint64(_WORD, _WORD, _WORD))
def on_look_up(context, gva, access):
    """Send an access through the model and return its entry."""
    user = user_at(load64(context + _USER))
    large = words(user[_P_TLB_STATE])[_LARGE] != _0
    pass_sets(context, gva, access, large, True)
    if load64(context + _PRIVILEGE):
        do1(load64(context + _PRIVILEGE), (load64(context + _USER),))
    index = look_up(user, gva, access)
    if words(user[_P_TLB_STATE])[_GROWS]:
        ask_to_stop(context)
    pass_sets(context, gva, access, large, False)
    return U(index)


@kernel(types.uint64(_WORD))
def clock_of_block(context):
    """Return the model's clock before any access of the running block but those that were counted as they happened."""
    near = load64(context + _NEAR)
    record = load64(context + _RECORDS) + load64(near + _N_BLOCK) * _R_WORDS
    return load64(near + _N_CLOCK) - load64(record + _R_ACCESSES)


@kernel(types.uint64(_WORD, _WORD, _WORD), inline="always")
def slot_of(context, page, access):
    """Return the slot that `page` has for an access, if it has it."""
    return (page & _SLOT_MASK) + (_SLOTS if access == _WRITE and load64(context + _SPLIT) else _0)


@kernel(types.boolean(_WORD, _WORD, _WORD))
def holds(context, slot, page):
    """Whether `page` has `slot`."""
    return word(context, _OWNERS, slot) == page


@kernel(types.boolean(_WORD, _WORD))
def is_dirty(context, slot):
    """Whether a store to the page of `slot` needs no walk."""
    user = user_at(load64(context + _USER))
    at = _2 * words(user[_P_TLB_STATE])[_CAPACITY] + word(context, _ENTRIES, slot)
    return words(user[_P_TLB])[at] & _DIRTY != _0


@kernel(types.void(_WORD, _WORD, _WORD))
def use_page(context, gva, access):
    """Look the page of `gva` up in the model at the model's clock, and let it have its slot."""
    state = words(user_at(load64(context + _USER))[_P_TLB_STATE])
    page = gva >> _12
    slot = slot_of(context, page, access)
    if holds(context, slot, page) and (access != _WRITE or is_dirty(context, slot)):
        state[_T_CLOCK] += _1
    else:
        index = np.int64(call3(load64(context + _LOOK_UP), (context, gva, access)))
        take_slot(context, slot, index, page)
    store64(load64(context + _NEAR) + _N_STAMPS + (slot << _3), state[_T_CLOCK])


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, types.boolean))
def look_up_access(context, gva, access, done, crosses):
    """Send an access through the model, the one behind `done` others of its block.

    The slot of an access that crosses a page is nobody's afterwards: the stamp that is written then is not of it.
    """
    user = user_at(load64(context + _USER))
    near, state = load64(context + _NEAR), words(user[_P_TLB_STATE])
    before = clock_of_block(context) + done
    state[_T_CLOCK] = before
    use_page(context, gva, access)
    if crosses:
        carray(user[_P_STATE], (_N_STATE,), np.uint64)[_SPLITS] += _1
        use_page(context, (gva | _OFFSET) + _1, access)
        slot = slot_of(context, gva >> _12, access)
        if word(context, _OWNERS, slot) != _NONE:
            give_up(context, slot)
    store64(near + _N_CLOCK, load64(near + _N_CLOCK) + state[_T_CLOCK] - before)


@kernel(types.uint64(_WORD, _WORD, _WORD))
def engine_entry(env, index, page):
    """Return where the engine's TLB of mmu index `index` has `page`, if it does."""
    fast = env + _TLB + (index << _4)
    return load64(fast + _8) + ((page << _6) & load64(fast))


@kernel(types.uint64(_WORD, _WORD, _WORD))
def engine_io(env, index, page):
    """Return where the engine keeps what goes with that entry: 16 bytes for 64 of the entry."""
    number = (page << _6) & load64(env + _TLB + (index << _4))
    return load64(env + _TLB_REST + index * _REST_SIZE + _TLB_IO) + (number >> _2)


@kernel(types.uint64(_WORD, _WORD), inline="always")
def place_of_saved(context, page):
    """Return where an entry of the engine's TLB is kept for `page`."""
    return load64(context + _SAVED) + (page & _S_MASK) * _S_WORDS


@kernel(types.uint64(_WORD, _WORD, _WORD), inline="always")
def key_of(context, page, index):
    """Return the key under which an entry is kept."""
    return (page & _PAGE_MASK) | index << _45 | load64(context + _EPOCH) << _47


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def save(context, env, index, page):
    """Keep the engine's TLB entry of `page`, as far as accesses need no detour."""
    entry, base = engine_entry(env, index, page), page << _12
    rights = (_1 if load64(entry) == base else _0) | (_2 if load64(entry + _8) == base else _0)
    at = place_of_saved(context, page)
    store64(at, key_of(context, page, index))
    store64(at + _RIGHTS, rights)
    store64(at + _HPA, load64(entry + _24))
    store64(at + _ADDEND, load64(entry + _32))
    io = engine_io(env, index, page)
    store64(at + _IO, load64(io))
    store64(at + _IO + _8, load64(io + _8))


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, types.boolean))
def allow(context, env, index, page, restore):
    """Let the engine's TLB have of `page` what needs no look at the model; `restore`: it has lost the page."""
    at, base, entry = place_of_saved(context, page), page << _12, engine_entry(env, index, page)
    stores = slot_of(context, page, _WRITE)
    reads = holds(context, slot_of(context, page, _READ), page)
    writes = holds(context, stores, page) and is_dirty(context, stores)
    if restore:
        rights = load64(at + _RIGHTS)
        if load64(entry + _16) != base:
            store64(entry + _16, _NONE)
        store64(entry, base if reads and rights & _1 else _NONE)
        store64(entry + _8, base if writes and rights & _2 else _NONE)
        store64(entry + _24, load64(at + _HPA))
        store64(entry + _32, load64(at + _ADDEND))
        io = engine_io(env, index, page)
        store64(io, load64(at + _IO))
        store64(io + _8, load64(at + _IO + _8))
    else:
        if not reads and load64(entry) == base:
            store64(entry, _NONE)
        if not writes and load64(entry + _8) & _FLAGS == base:
            store64(entry + _8, _NONE)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def after_library(context, env, index, gva, size):
    """Keep what the library's function has put into the engine's TLB for an access, and allow what the model does."""
    page = gva >> _12
    save(context, env, index, page)
    allow(context, env, index, page, False)
    if (gva & _OFFSET) + size > _PAGE:
        save(context, env, index, page + _1)
        allow(context, env, index, page + _1, False)


@kernel(types.void(_WORD, _WORD))
def fetch(context, page):
    """Look a page up for a fetch, unless it is where a look-up found it before."""
    user = user_at(load64(context + _USER))
    alone = word(context, _PAIRS, _FETCH * _N_PAIRS) == _NONE  # no structure has both code and data
    if not alone or not recall_page(user, _P_FETCH, page, page):
        index = np.int64(call3(load64(context + _LOOK_UP), (context, page << _12, _FETCH)))
        remember(user, _P_FETCH, page, page, index)


@callback(types.void(_WORD, types.int32))
def on_fetch(context, number):
    """Called by a block whose page is not that of the block before, or that lies in two: look them up."""
    user = user_at(load64(context + _USER))
    near, state = load64(context + _NEAR), words(user[_P_TLB_STATE])
    record = load64(context + _RECORDS) + U(number) * _R_WORDS
    pc = load64(record + _R_PC)
    page, last = pc >> _12, (pc + load64(record + _R_SIZE) - _1) >> _12
    before = load64(near + _N_CLOCK) - load64(record + _R_ACCESSES)
    state[_T_CLOCK] = before
    if page != load64(near + _N_FETCH):
        fetch(context, page)
    if last != page:
        carray(user[_P_STATE], (_N_STATE,), np.uint64)[_FETCH_PAGES] += _1
        fetch(context, last)
    store64(near + _N_FETCH, last)
    store64(near + _N_CLOCK, load64(near + _N_CLOCK) + state[_T_CLOCK] - before)
