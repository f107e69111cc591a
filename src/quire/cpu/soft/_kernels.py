"""The hooks: compiled callbacks that Unicorn calls for translations, accesses, blocks and system calls.

Registered by address through the C API, they run no Python. A fill walks the guest's tables and EPT; in full
detail each access goes through the modelled TLB. A hook that must stop the guest writes a StopCode and either
refuses the fill (the instruction has not happened) or calls ``uc_emu_stop``.
"""

import numpy as np
from numba import carray, types

from quire.arch import Access, Side
from quire.cpu.soft.casts._kernels import octets, shape_words, words
from quire.cpu.soft.state import RECENT_SLOTS, Detail, Pointer, Recent, SoftState, StopCode
from quire.kernels import callback, kernel
from quire.paging import RESULT_WORDS, Context, Result, Rights, Status
from quire.paging.memo._kernels import walk_with_memo_from
from quire.tlb import TAG, TRANSLATION, TlbState
from quire.tlb._kernels import KIND_SHIFTS_ARRAY, fill, lookup, touch_entry
from quire.tlb.layout import SIDE_NUMBERS
from quire.tlb.nodes._kernels import note_data, walk_noting_nodes
from quire.tlb.walker._kernels import size_of_shift, translation, walk_behind_caches

U = np.uint64
HANDLE = types.CPointer(types.uint8)
USER = types.CPointer(types.voidptr)

#: Slots of the block table and words of the code log; a run stops to empty them when they are 3/4 full.
BLOCK_SLOTS = 1 << 20
LOG_WORDS = 1 << 21

_N_STATE, _N_CONTEXT = len(SoftState), len(Context)
_CLOCK, _CAPACITY, _GROWS = int(TlbState.CLOCK), int(TlbState.CAPACITY), int(TlbState.FULL)
_TREES = int(TlbState.TREES)
_P_STATE, _P_MEMORY, _P_CONTEXT = int(Pointer.STATE), int(Pointer.MEMORY), int(Pointer.CONTEXT)
_P_RESULT, _P_REVERSE = int(Pointer.RESULT), int(Pointer.REVERSE)
_P_ENGINE = int(Pointer.ENGINE)
_P_TLB, _P_TLB_STATE = int(Pointer.TLB_ENTRIES), int(Pointer.TLB_STATE)
_P_SHAPES, _P_BLOCKS, _P_LOG = int(Pointer.TLB_SHAPES), int(Pointer.BLOCKS), int(Pointer.LOG)
_P_FETCH, _P_LOAD = int(Pointer.RECENT_FETCH), int(Pointer.RECENT_LOAD)
_P_STORE, _P_MEMO, _P_PATH = int(Pointer.RECENT_STORE), int(Pointer.MEMO), int(Pointer.PATH)
_INDEX, _TAG = np.uint64(Recent.INDEX), np.uint64(Recent.TAG)
_RECENT_WORDS, _COLUMNS = RECENT_SLOTS * len(Recent), np.uint64(len(Recent))
_RECENT_MASK = np.uint64(RECENT_SLOTS - 1)
_READS, _WRITES, _SPLITS = int(SoftState.READS), int(SoftState.WRITES), int(SoftState.SPLITS)
_FETCH_PAGES, _WALKS = int(SoftState.FETCH_PAGES), int(SoftState.WALKS)
_DIRTY_WALKS, _FAULTED = int(SoftState.DIRTY_WALKS), int(SoftState.FAULTED_WALKS)
_GUEST_REFS, _HOST_REFS = int(SoftState.GUEST_REFERENCES), int(SoftState.HOST_REFERENCES)
_FILLS, _ALIASES, _BLOCKS = int(SoftState.FILLS), int(SoftState.ALIASES), int(SoftState.BLOCKS)
_STOP, _FAULT_ACCESS = int(SoftState.STOP), int(SoftState.FAULT_ACCESS)
_VECTOR, _DETAIL = int(SoftState.VECTOR), int(SoftState.DETAIL)
_LAST_FETCH, _LAST_BLOCK = int(SoftState.LAST_FETCH), int(SoftState.LAST_BLOCK)
_LAST_SIZE, _KNOWN = int(SoftState.LAST_BLOCK_SIZE), int(SoftState.BLOCKS_KNOWN)
_LOG_USED, _SYNC_OFFSET = int(SoftState.LOG_USED), int(SoftState.SKIP_SYNC_OFFSET)
_SYNC, _MEMORY_WORDS = int(SoftState.SKIP_SYNC), int(SoftState.MEMORY_WORDS)
_FILLS_LEFT, _EPOCH = int(SoftState.FILLS_LEFT), int(SoftState.EPOCH)
_PASS_ALIASES = int(SoftState.PASS_ALIASES)
_ANSWERED, _INTERRUPT, _R_STATUS = int(SoftState.ANSWERED), int(SoftState.INTERRUPT), int(Result.STATUS)
_S_INTERRUPTED = U(StopCode.INTERRUPTED)
_NODES, _P_NODE_TABLE = int(SoftState.NODES), int(Pointer.NODE_TABLE)
_P_NODE_COUNTS, _P_LINES = int(Pointer.NODE_COUNTS), int(Pointer.LINES)
_R_HPA, _R_RIGHTS = int(Result.HPA), int(Result.RIGHTS)
_R_GSHIFT, _R_HSHIFT = int(Result.GUEST_SHIFT), int(Result.HOST_SHIFT)
_R_DIRTY, _R_GLOBAL = int(Result.DIRTY), int(Result.GLOBAL)
_R_GREFS, _R_HREFS = int(Result.GUEST_REFERENCES), int(Result.HOST_REFERENCES)
_FULL = U(Detail.FULL)
_READ, _WRITE, _FETCH = U(Access.READ), U(Access.WRITE), U(Access.FETCH)
_MAY_READ, _MAY_WRITE, _MAY_EXECUTE = U(Rights.READ), U(Rights.WRITE), U(Rights.EXECUTE)
_FETCH_SIDE, _LOAD_SIDE, _STORE_SIDE = (
    np.int64(SIDE_NUMBERS[s]) for s in (Side.FETCH, Side.LOAD, Side.STORE)
)
_OK = np.int64(Status.OK)
_S_FAULT, _S_SYSCALL, _S_TRAP = U(StopCode.FAULT), U(StopCode.SYSCALL), U(StopCode.TRAP)
_S_ALIAS, _S_FULL, _S_TLB_FULL = U(StopCode.ALIAS), U(StopCode.BLOCKS_FULL), U(StopCode.TLB_FULL)
_S_CODE_ALIAS, _S_GROWS = U(StopCode.CODE_ALIAS), U(StopCode.TLB_GROWS)
_T_DIRTY, _T_FRAME = U(TRANSLATION.mask("dirty")), U(TRANSLATION.mask("frame"))
_KIND = U(TAG.shift("kind"))
_FAULTED_LOOKUP, _NOT_HELD = np.int64(-1), np.int64(-2)
_0, _1, _2, _3, _8, _12, _48 = (U(n) for n in (0, 1, 2, 3, 8, 12, 48))
_OFFSET, _PAGE = U(0xFFF), U(0x1000)
_NONE = U((1 << 64) - 1)
_FETCHED = U(1 << 63)
_LOW = U((1 << 48) - 1)
_SIGN = U(1 << 47)
_EPOCH_ONE = U(1 << 61)
_UC_READ, _UC_WRITE, _UC_FETCH = 16, 17, 18
_INDEX_MASK = np.int64((1 << 32) - 1)
_HASH = U(0x9E3779B97F4A7C15)
_SLOT_MASK = U(BLOCK_SLOTS - 1)
_SLOT_SHIFT = U(64 - 20)

_stop = types.ExternalFunction("uc_emu_stop", types.int32(types.voidptr))


@kernel(types.void(USER))
def stop(user):
    """End the run behind a hook that does not leave the instruction: the engine computes the program counter again."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_SYNC_OFFSET]:
        octets(user[_P_ENGINE])[state[_SYNC_OFFSET]] = np.uint8(0)
    _stop(user[_P_ENGINE])


@kernel(types.int64(USER, types.uint64, types.uint64))
def counted_walk(user, gva, access):
    """Walk and count it; return the status. The result array holds the rest."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    result = words(user[_P_RESULT])
    if state[_NODES]:
        status = walk_noting_nodes(
            *(words(user[_P_MEMORY]), words(user[_P_CONTEXT]), gva, access, result),
            *(words(user[_P_TLB]), words(user[_P_TLB_STATE]), shape_words(user[_P_SHAPES])),
            *(words(user[_P_PATH]), state[_DETAIL] == _FULL),
            *(octets(user[_P_NODE_TABLE]), words(user[_P_NODE_COUNTS]), words(user[_P_LINES])),
        )
    elif state[_DETAIL] == _FULL:
        status = walk_behind_caches(
            *(words(user[_P_MEMORY]), words(user[_P_CONTEXT]), words(user[_P_MEMO]), gva, access, result),
            *(words(user[_P_TLB]), words(user[_P_TLB_STATE])),
            *(shape_words(user[_P_SHAPES]), words(user[_P_PATH])),
        )
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
    if tlb_state[_GROWS] and state[_STOP] == _0:
        state[_STOP] = _S_GROWS
        stop(user)
    return index if index >= 0 else _NOT_HELD


@callback(types.boolean(HANDLE, types.uint64, types.int32, types.CPointer(types.uint64), USER))
def on_fill(handle, gva, kind, entry, user):
    """UC_HOOK_TLB_FILL: translate the page of `gva` for Unicorn's TLB, or refuse and leave the fault in result.

    A page is given W or X but not both: only then does Unicorn store to it without a detour, and a page that is
    both comes back here whenever it changes roles, which drops code compiled from it.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    result = carray(user[_P_RESULT], (RESULT_WORDS,), np.uint64)
    access = U(kind - _UC_READ)
    if state[_FILLS_LEFT] == _0 or state[_INTERRUPT]:
        state[_STOP] = _S_INTERRUPTED if state[_INTERRUPT] else _S_TLB_FULL
        return False
    state[_FILLS_LEFT] -= _1
    state[_FILLS] += _1
    if state[_ANSWERED]:
        if state[_STOP]:
            return False
        status = np.int64(result[_R_STATUS])
    elif state[_DETAIL] == _FULL:
        status = walk_with_memo_from(
            *(words(user[_P_MEMORY]), words(user[_P_CONTEXT]), words(user[_P_MEMO])),
            *(gva, access, words(user[_P_RESULT])),
        )
    else:
        status = counted_walk(user, gva, access)
    if status != _OK:
        state[_STOP] = _S_FAULT
        state[_FAULT_ACCESS] = access
        return False
    hpa = result[_R_HPA]
    rights = result[_R_RIGHTS]
    if access == _FETCH:
        rights &= _MAY_READ | _MAY_EXECUTE
    elif rights & _MAY_WRITE:
        rights &= _MAY_READ if result[_R_DIRTY] == _0 else _MAY_READ | _MAY_WRITE
    if rights & (_MAY_WRITE | _MAY_EXECUTE) or state[_DETAIL] == _FULL:
        reverse = carray(user[_P_REVERSE], (np.int64(state[_MEMORY_WORDS]) >> 9,), np.uint64)
        frame = np.int64(hpa >> _12)
        page = ((gva & _LOW) >> _12) + _1
        before = reverse[frame]
        full = state[_DETAIL] == _FULL
        if full and access == _WRITE and before & _FETCHED:
            # Code is about to change: blocks counted so far are those of the old code. No stop here: the engine
            # repeats a store into the block that it executes, and a stop in between would repeat it for ever.
            before &= ~_FETCHED
            state[_EPOCH] += _EPOCH_ONE
        fetched = (before & _FETCHED) | (_FETCHED if rights & _MAY_EXECUTE else _0)
        reverse[frame] = fetched | page
        if before & ~_FETCHED != _0 and before & ~_FETCHED != page and (full or fetched != _0):
            if full:
                state[_ALIASES] += _1
                slot = (U(frame) & _RECENT_MASK) * _COLUMNS
                words(user[_P_LOAD])[slot] = _NONE
                words(user[_P_STORE])[slot] = _NONE
            if state[_PASS_ALIASES] == _0:
                state[_STOP] = _S_ALIAS
                if fetched != _0:
                    reverse[frame] = page | (_FETCHED if rights & _MAY_EXECUTE else _0)
                    state[_STOP] = _S_CODE_ALIAS
                return False
    entry[0] = hpa & ~_OFFSET
    carray(entry, (2,))[1] = rights
    return True


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
    if tlb_state[_TREES]:
        touch_entry(entries, tlb_state, shape_words(user[_P_SHAPES]), np.int64(index))
    else:
        entries[tlb_state[_CAPACITY] + index] = tlb_state[_CLOCK]
    return True


@kernel(types.void(types.int32, types.uint64, types.int32, USER))
def slow_access(kind, hpa, size, user):
    """The part of a data access that the recent pages do not answer."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    frame = hpa >> _12
    reverse = carray(user[_P_REVERSE], (np.int64(state[_MEMORY_WORDS]) >> 9,), np.uint64)
    # Linear pages are kept to 48 bits: the top one of them is the sign.
    gva = ((((reverse[frame] & ~_FETCHED) - _1) << _12) ^ _SIGN) - _SIGN
    access = _WRITE if kind == _UC_WRITE else _READ
    index = look_up(user, gva | (hpa & _OFFSET), access)
    remember(user, _P_STORE if access == _WRITE else _P_LOAD, frame, frame, index)
    if (hpa & _OFFSET) + U(size) > _PAGE:
        state[_SPLITS] += _1
        look_up(user, gva + _PAGE, access)


@callback(types.void(HANDLE, types.int32, types.uint64, types.int32, types.int64, USER))
def on_memory(handle, kind, hpa, size, value, user):
    """UC_HOOK_MEM_READ and UC_HOOK_MEM_WRITE: count a data access, look it up; one that crosses a page comes once."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    frame = hpa >> _12
    array = _P_LOAD
    if kind == _UC_WRITE:
        state[_WRITES] += _1
        array = _P_STORE
    else:
        state[_READS] += _1
    if state[_NODES]:
        note_data(octets(user[_P_NODE_TABLE]), words(user[_P_NODE_COUNTS]), words(user[_P_LINES]), hpa)
    if (hpa & _OFFSET) + U(size) > _PAGE or not recall_page(user, array, frame, frame):
        slow_access(kind, hpa, size, user)


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


@callback(types.void(HANDLE, USER))
def on_syscall(handle, user):
    """UC_HOOK_INSN for SYSCALL: stop behind the instruction."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    state[_STOP] = _S_SYSCALL
    _stop(user[_P_ENGINE])


@callback(types.void(HANDLE, types.uint32, USER))
def on_interrupt(handle, vector, user):
    """UC_HOOK_INTR: an exception or software interrupt; stop and leave its vector."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    state[_STOP] = _S_TRAP
    state[_VECTOR] = U(vector)
    _stop(user[_P_ENGINE])
