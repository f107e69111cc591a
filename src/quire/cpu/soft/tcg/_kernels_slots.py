"""Pages of the modelled first level that the engine's own TLB may hold, and the stamps that accesses leave of them.

A page has its stamp in the slot of its low bits, if the slot is its own: no other page is in the engine's TLB then
whose accesses would stamp the same slot. A TLB entry of the model has all slots of its pages in a row, for a large
page has many. The model's own stamps are brought up to date before anything looks at them. Slots of loads, or of all
data, come first; then those of stores, where stores have a structure of their own.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft._kernels_casts import shape_words, words
from quire.cpu.soft.state import Pointer
from quire.cpu.soft.tcg._kernels_raw import load64, store64, user_at
from quire.cpu.soft.tcg.cells import PAIRS, SLOTS, Cell, Near
from quire.cpu.soft.tcg.offsets import MMU_INDICES, VICTIMS, Offset
from quire.kernels import kernel, types
from quire.tlb._kernels import touch
from quire.tlb._kernels_replacement import LRU
from quire.tlb.layout import Shape, TlbState

U = np.uint64
_WORD = types.uint64

_C = {cell: U(8 * cell) for cell in Cell}
_USER, _ENV, _NEAR, _PAIRS = _C[Cell.USER], _C[Cell.ENV], _C[Cell.NEAR], _C[Cell.PAIRS]
_SPLIT, _OWNERS, _ENTRIES = _C[Cell.SPLIT], _C[Cell.OWNERS], _C[Cell.ENTRIES]
_TAGS, _FOLLOWERS, _HEADS = _C[Cell.TAGS], _C[Cell.FOLLOWERS], _C[Cell.HEADS]
_P_TLB, _P_TLB_STATE = int(Pointer.TLB_ENTRIES), int(Pointer.TLB_STATE)
_P_SHAPES = int(Pointer.TLB_SHAPES)
_CAPACITY, _CLOCK = int(TlbState.CAPACITY), int(TlbState.CLOCK)
_START, _SET_MASK, _WAYS = int(Shape.START), int(Shape.SET_MASK), int(Shape.WAYS)
_POLICY = int(Shape.POLICY)
_STAMPS, _FILLED, _ENTRY = U(Near.STAMPS), U(Near.FILLED), U(Offset.TLB_ENTRY)
_TLB, _TLB_REST = U(Offset.ENV_TLB & WORD), U(Offset.ENV_TLB_REST & WORD)
_REST_SIZE, _VICTIM = U(Offset.TLB_REST_SIZE), U(Offset.TLB_VICTIMS)
_N_INDICES, _N_VICTIMS = MMU_INDICES, VICTIMS
_SLOTS = U(SLOTS)
_0, _3, _4, _6, _8, _12 = (U(n) for n in (0, 3, 4, 6, 8, 12))
_FLAGS = U(~0x7FF & WORD)
_NONE = U(WORD)


@kernel(types.uint64(_WORD, _WORD, _WORD), inline="always")
def word(context, array, index):
    """Return word `index` of one of the context's arrays."""
    return load64(load64(context + array) + (index << _3))


@kernel(types.void(_WORD, _WORD, _WORD, _WORD), inline="always")
def set_word(context, array, index, value):
    """Set word `index` of one of the context's arrays."""
    store64(load64(context + array) + (index << _3), value)


@kernel(types.uint64(_WORD, _WORD), inline="always")
def stamp_of(context, slot):
    """Return when the page of `slot` was used last."""
    return load64(load64(context + _NEAR) + _STAMPS + (slot << _3))


@kernel(types.void(_WORD, _WORD, types.boolean, types.boolean))
def drop_entry(at, base, read, write):
    """Take reads, writes or both of the page at `base` from the engine's TLB entry at `at`, if it is that page's."""
    if read and load64(at) == base:
        store64(at, _NONE)
    if write and load64(at + _8) & _FLAGS == base:
        store64(at + _8, _NONE)


@kernel(types.void(_WORD))
def forget_victims(env):
    """Take reads and writes from what the engine keeps of entries that others took the place of."""
    for index in range(_N_INDICES):
        at = env + _TLB_REST + U(index) * _REST_SIZE + _VICTIM
        for _ in range(_N_VICTIMS):
            store64(at, _NONE)
            store64(at + _8, _NONE)
            at += _ENTRY


@kernel(types.void(_WORD, _WORD, types.boolean, types.boolean))
def drop_page(context, page, read, write):
    """Take a page from the engine's TLBs."""
    env, base, near = load64(context + _ENV), page << _12, load64(context + _NEAR)
    if load64(near + _FILLED):
        forget_victims(env)
        store64(near + _FILLED, _0)
    for index in range(_N_INDICES):
        fast = env + _TLB + (U(index) << _4)
        drop_entry(load64(fast + _8) + ((page << _6) & load64(fast)), base, read, write)


@kernel(types.uint64(_WORD, _WORD))
def last_use(context, entry):
    """Return the latest stamp of the slots of a TLB entry, 0 if it has none."""
    latest = _0
    slot = word(context, _HEADS, entry)
    while slot != _NONE:
        latest = max(latest, stamp_of(context, slot))
        slot = word(context, _FOLLOWERS, slot)
    return latest


@kernel(types.void(_WORD, types.int64, types.int64))
def bring_up_to_date(context, row, start):
    """Give the model the uses of the entries of the set that begins at `start`, the last of each, in their order.

    That is all that the policies there are depend on: their words of a set are the same as after every use.
    """
    user = user_at(load64(context + _USER))
    entries, state, shapes = words(user[_P_TLB]), words(user[_P_TLB_STATE]), shape_words(user[_P_SHAPES])
    capacity, now = np.int64(state[_CAPACITY]), state[_CLOCK]
    ways = shapes[row + _WAYS]
    if shapes[row + _POLICY] == LRU:
        for entry in range(start, start + ways):
            if word(context, _HEADS, U(entry)) != _NONE:
                entries[capacity + entry] = max(entries[capacity + entry], last_use(context, U(entry)))
        return
    for _ in range(ways):
        first, least = np.int64(-1), _NONE
        for entry in range(start, start + ways):
            used = last_use(context, U(entry))
            if entries[capacity + entry] < used < least:
                first, least = np.int64(entry), used
        if first < 0:
            break
        state[_CLOCK] = least
        touch(entries, state, shapes, row, first, entries[first])
    state[_CLOCK] = now


@kernel(types.int64(_WORD, types.int64))
def row_of(context, entry):
    """Return the row of the structure with sets that `entry` is in, -1 if it is in a table without bound."""
    shapes = shape_words(user_at(load64(context + _USER))[_P_SHAPES])
    for number in range(3 * PAIRS):
        pair = word(context, _PAIRS, U(number))
        if pair != _NONE:
            row = np.int64(pair >> _8)
            begin = shapes[row + _START]
            if begin <= entry < begin + (shapes[row + _SET_MASK] + 1) * shapes[row + _WAYS]:
                return row
    return np.int64(-1)


@kernel(types.void(_WORD, types.int64))
def note_use(context, entry):
    """Give the model the uses of `entry`, and of the others of its set if it has one."""
    user = user_at(load64(context + _USER))
    row = row_of(context, entry)
    if row < 0:
        stamp = np.int64(words(user[_P_TLB_STATE])[_CAPACITY]) + entry
        words(user[_P_TLB])[stamp] = max(words(user[_P_TLB])[stamp], last_use(context, U(entry)))
        return
    shapes = shape_words(user[_P_SHAPES])
    begin, ways = shapes[row + _START], shapes[row + _WAYS]
    bring_up_to_date(context, row, begin + (entry - begin) // ways * ways)


@kernel(types.void(_WORD, _WORD))
def unlink(context, slot):
    """Take `slot` from the row of its entry; nobody has it then."""
    entry = word(context, _ENTRIES, slot)
    at = word(context, _HEADS, entry)
    after = word(context, _FOLLOWERS, slot)
    if at == slot:
        set_word(context, _HEADS, entry, after)
    else:
        while word(context, _FOLLOWERS, at) != slot:
            at = word(context, _FOLLOWERS, at)
        set_word(context, _FOLLOWERS, at, after)
    set_word(context, _OWNERS, slot, _NONE)


@kernel(types.void(_WORD, _WORD))
def leave_engine(context, slot):
    """Take the page of `slot` from the engine's TLBs, as far as the slot's accesses go, and free the slot."""
    page = word(context, _OWNERS, slot)
    split = load64(context + _SPLIT) != _0
    drop_page(context, page, not split or slot < _SLOTS, not split or slot >= _SLOTS)
    unlink(context, slot)


@kernel(types.void(_WORD, _WORD))
def give_up(context, slot):
    """Free `slot`, whose page the model still holds: its use is noted there."""
    note_use(context, np.int64(word(context, _ENTRIES, slot)))
    leave_engine(context, slot)


@kernel(types.void(_WORD, types.int64))
def drop_changed(context, entry):
    """Free the slots of a TLB entry that holds another tag now than it did."""
    held = words(user_at(load64(context + _USER))[_P_TLB])[entry]
    slot = word(context, _HEADS, U(entry))
    while slot != _NONE:
        after = word(context, _FOLLOWERS, slot)
        if word(context, _TAGS, slot) != held:
            leave_engine(context, slot)
        slot = after


@kernel(types.void(_WORD, _WORD, types.int64, _WORD))
def take_slot(context, slot, entry, page):
    """Let `page`, which is in TLB entry `entry` (negative: in none), have `slot`; who had it gives it up."""
    owner = word(context, _OWNERS, slot)
    if owner != _NONE:
        if owner == page and np.int64(word(context, _ENTRIES, slot)) == entry:
            return
        give_up(context, slot)
    if entry < 0:
        return
    set_word(context, _OWNERS, slot, page)
    set_word(context, _ENTRIES, slot, U(entry))
    set_word(context, _TAGS, slot, words(user_at(load64(context + _USER))[_P_TLB])[entry])
    set_word(context, _FOLLOWERS, slot, word(context, _HEADS, U(entry)))
    set_word(context, _HEADS, U(entry), slot)


@kernel(types.int64(_WORD, types.int64, _WORD, _WORD))
def set_start(context, row, shift, gva):
    """Return the first entry of the set that the page of `gva`, of 2**`shift` bytes, is in."""
    shapes = shape_words(user_at(load64(context + _USER))[_P_SHAPES])
    number = np.int64((gva >> shift) & U(shapes[row + _SET_MASK]))
    return shapes[row + _START] + number * shapes[row + _WAYS]
