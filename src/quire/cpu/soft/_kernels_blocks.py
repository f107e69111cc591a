"""The block hook: instructions counted by blocks, each block's code logged once, its pages looked up as fetches.

Registered in full detail alone. Who reads the table and the log is ``blocks.py``.
"""

import numpy as np

from quire.arch import WORD, Access
from quire.cpu.soft._kernels_casts import HANDLE, USER
from quire.cpu.soft._kernels_lookups import look_up, page_looked_up, recall_page, remember, stop
from quire.cpu.soft.state import Pointer, SoftState, StopCode
from quire.kernels import callback, carray, kernel, types

U = np.uint64

#: Slots of the block table and words of the code log; a run stops to empty them when they are 3/4 full.
BLOCK_SLOTS = 1 << 20
LOG_WORDS = 1 << 21

_N_STATE = len(SoftState)
_P_STATE, _P_MEMORY, _P_BLOCKS = int(Pointer.STATE), int(Pointer.MEMORY), int(Pointer.BLOCKS)
_P_LOG, _P_FETCH = int(Pointer.LOG), int(Pointer.RECENT_FETCH)
_FETCH_PAGES, _BLOCKS, _STOP = int(SoftState.FETCH_PAGES), int(SoftState.BLOCKS), int(SoftState.STOP)
_LAST_FETCH, _LAST_BLOCK = int(SoftState.LAST_FETCH), int(SoftState.LAST_BLOCK)
_LAST_SIZE, _KNOWN = int(SoftState.LAST_BLOCK_SIZE), int(SoftState.BLOCKS_KNOWN)
_LOG_USED, _SYNC_OFFSET = int(SoftState.LOG_USED), int(SoftState.SKIP_SYNC_OFFSET)
_SYNC, _MEMORY_WORDS, _EPOCH = int(SoftState.SKIP_SYNC), int(SoftState.MEMORY_WORDS), int(SoftState.EPOCH)
_INTERRUPT = int(SoftState.INTERRUPT)
_S_INTERRUPTED = U(StopCode.INTERRUPTED)
_FETCH = U(Access.FETCH)
_S_FULL = U(StopCode.BLOCKS_FULL)
_0, _1, _2, _3, _8, _12, _48 = (U(n) for n in (0, 1, 2, 3, 8, 12, 48))
_OFFSET = U(0xFFF)
_NONE = U(WORD)
_LOW = U((1 << 48) - 1)
_HASH = U(0x9E3779B97F4A7C15)
_SLOT_MASK = U(BLOCK_SLOTS - 1)
_SLOT_SHIFT = U(64 - 20)


@kernel(types.void(USER, types.uint64, types.uint64, types.uint64, types.int64))
def log_block(user, gva, size, key, slot):
    """Enter a block that is seen for the first time: its key, and its code in the log."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    blocks = carray(user[_P_BLOCKS], (2 * BLOCK_SLOTS,), np.uint64)
    log = carray(user[_P_LOG], (LOG_WORDS,), np.uint64)
    memory = carray(user[_P_MEMORY], (np.int64(state[_MEMORY_WORDS]),), np.uint64)
    blocks[2 * slot] = key
    blocks[2 * slot + 1] = _1
    state[_KNOWN] += _1
    at = np.int64(state[_LOG_USED])
    log[at] = key
    word, page, base = _0, _NONE, _0
    for n in range(np.int64(size)):
        here = gva + U(n)
        if here >> _12 != page:
            page = here >> _12
            base = page_looked_up(user, here, look_up(user, here, _FETCH))
        byte = _0
        if base != _NONE:
            hpa = base | (here & _OFFSET)
            byte = (memory[np.int64(hpa >> _3)] >> ((hpa & U(7)) * _8)) & U(0xFF)
        word |= byte << (U(n & 7) * _8)
        if n & 7 == 7:
            log[at + 1 + (n >> 3)] = word
            word = _0
    if size & U(7):
        log[at + 1 + np.int64(size >> _3)] = word
    state[_LOG_USED] = U(at + 1) + ((size + U(7)) >> _3)


@kernel(types.void(HANDLE, USER, types.uint64))
def fetch_page(handle, user, page):
    """Look a linear page up in the instruction TLB.

    The first block of every run comes here, before any access: the place to tell the engine that no hook looks at
    the program counter, which it would else compute at each access.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_SYNC_OFFSET]:
        handle[state[_SYNC_OFFSET]] = np.uint8(state[_SYNC])
    state[_LAST_FETCH] = page
    if not recall_page(user, _P_FETCH, page, page):
        remember(user, _P_FETCH, page, page, look_up(user, page << _12, _FETCH))


@kernel(types.void(HANDLE, types.uint64, types.uint64, types.uint64, types.uint64, USER))
def slow_block(handle, gva, size, key, slot, user):
    """The part of a block that the first probe of the table does not answer."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    blocks = carray(user[_P_BLOCKS], (2 * BLOCK_SLOTS,), np.uint64)
    while blocks[_2 * slot] != key and blocks[_2 * slot] != _0:
        slot = (slot + _1) & _SLOT_MASK
    if blocks[_2 * slot] == key:
        blocks[_2 * slot + _1] += _1
        return
    log_block(user, gva, size, key, np.int64(slot))
    if state[_KNOWN] > U(3 * BLOCK_SLOTS // 4) or state[_LOG_USED] > U(3 * LOG_WORDS // 4):
        state[_STOP] = _S_FULL
        stop(user)


@callback(types.void(HANDLE, types.uint64, types.uint32, USER))
def on_block(handle, gva, size, user):
    """UC_HOOK_BLOCK: count a block of instructions and look its pages up in the instruction TLB."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_INTERRUPT]:
        state[_STOP], state[_LAST_SIZE] = _S_INTERRUPTED, _0
        stop(user)
        return
    blocks = carray(user[_P_BLOCKS], (2 * BLOCK_SLOTS,), np.uint64)
    length = U(size)
    key = (gva & _LOW) | (length << _48) | state[_EPOCH]
    slot = (key * _HASH) >> _SLOT_SHIFT
    state[_BLOCKS] += _1
    state[_LAST_BLOCK] = gva
    state[_LAST_SIZE] = length
    page = gva >> _12
    last = (gva + length - _1) >> _12
    if page != state[_LAST_FETCH]:
        fetch_page(handle, user, page)
    if last != page:
        state[_FETCH_PAGES] += _1
        fetch_page(handle, user, last)
    if blocks[_2 * slot] == key:
        blocks[_2 * slot + _1] += _1
        return
    slow_block(handle, gva, length, key, slot, user)
