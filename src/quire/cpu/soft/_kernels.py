"""The hooks: compiled callbacks that Unicorn calls for translations, accesses and system calls; for blocks, see
``_kernels_blocks.py``.

Registered by address through the C API, they run no Python. A fill walks the guest's tables and EPT; in full
detail each access goes through the modelled TLB. A hook that must stop the guest writes a StopCode and either
refuses the fill (the instruction has not happened) or calls ``uc_emu_stop``.
"""

import numpy as np

from quire.arch import WORD, Access
from quire.cpu.detail import Detail
from quire.cpu.soft._kernels_bus import fill_device
from quire.cpu.soft._kernels_casts import HANDLE, USER, emu_stop, words
from quire.cpu.soft._kernels_frames import has_code, may_do_both, may_execute, may_store, note_given
from quire.cpu.soft._kernels_lookups import counted_walk, counter_of, look_up, recall_page, remember
from quire.cpu.soft.state import RECENT_SLOTS, Emitted, Pointer, Recent, SoftState, StopCode
from quire.cpu.soft.tcg.cells import Near
from quire.kernels import callback, carray, kernel, types
from quire.paging import RESULT_WORDS, Result, Rights, Status
from quire.paging._kernels_memo import walk_with_memo_from
from quire.tlb.nodes._kernels import note_data

U = np.uint64

_N_STATE = len(SoftState)
_P_STATE, _P_MEMORY, _P_CONTEXT = int(Pointer.STATE), int(Pointer.MEMORY), int(Pointer.CONTEXT)
_P_RESULT, _P_REVERSE, _P_ENGINE = int(Pointer.RESULT), int(Pointer.REVERSE), int(Pointer.ENGINE)
_P_LOAD, _P_STORE, _P_MEMO = int(Pointer.RECENT_LOAD), int(Pointer.RECENT_STORE), int(Pointer.MEMO)
_COLUMNS = np.uint64(len(Recent))
_RECENT_MASK = np.uint64(RECENT_SLOTS - 1)
_READS, _WRITES, _SPLITS = int(SoftState.READS), int(SoftState.WRITES), int(SoftState.SPLITS)
_FILLS, _ALIASES, _STOP = int(SoftState.FILLS), int(SoftState.ALIASES), int(SoftState.STOP)
_FAULT_ACCESS, _VECTOR, _DETAIL = int(SoftState.FAULT_ACCESS), int(SoftState.VECTOR), int(SoftState.DETAIL)
_MEMORY_WORDS, _FILLS_LEFT = int(SoftState.MEMORY_WORDS), int(SoftState.FILLS_LEFT)
_EPOCH, _PASS_ALIASES = int(SoftState.EPOCH), int(SoftState.PASS_ALIASES)
_ANSWERED, _R_STATUS = int(SoftState.ANSWERED), int(Result.STATUS)
_NODES, _EMITTED, _P_NEAR = int(SoftState.NODES), int(SoftState.EMITTED), int(Pointer.NEAR)
_FILLED = Near.FILLED // 8
_LAST_BLOCK, _LAST_SIZE = Near.LAST_BLOCK // 8, int(SoftState.LAST_BLOCK_SIZE)
_R_HPA, _R_RIGHTS, _R_DIRTY = int(Result.HPA), int(Result.RIGHTS), int(Result.DIRTY)
_R_GSHIFT = int(Result.GUEST_SHIFT)
_FULL, _ACCESSES = U(Detail.FULL), U(Emitted.ACCESSES)
_READ, _WRITE, _FETCH = U(Access.READ), U(Access.WRITE), U(Access.FETCH)
_MAY_READ, _MAY_WRITE, _MAY_EXECUTE = U(Rights.READ), U(Rights.WRITE), U(Rights.EXECUTE)
_OK = np.int64(Status.OK)
_S_FAULT, _S_SYSCALL, _S_TRAP = U(StopCode.FAULT), U(StopCode.SYSCALL), U(StopCode.TRAP)
_S_ALIAS, _S_TLB_FULL = U(StopCode.ALIAS), U(StopCode.TLB_FULL)
_0, _1, _9, _12 = (U(n) for n in (0, 1, 9, 12))
_OFFSET, _PAGE = U(0xFFF), U(0x1000)
_NONE = U(WORD)
_LOW = U((1 << 48) - 1)
_SIGN = U(1 << 47)
_EPOCH_ONE = U(1 << 61)
_UC_READ, _UC_WRITE = 16, 17


@callback(types.boolean(HANDLE, types.uint64, types.int32, types.CPointer(types.uint64), USER))
def on_fill(handle, gva, kind, entry, user):
    """UC_HOOK_TLB_FILL: translate the page of `gva` for Unicorn's TLB, or refuse and leave the fault in result.

    A page is given W or X but not both: only then does Unicorn store to it without a detour. If there is code of its
    frame and it may be executed too, it gets both: stores to it look for code then, which W alone would end.
    """
    made = fill(gva, kind, entry, user)
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    if state[_EMITTED]:
        words(user[_P_NEAR])[_FILLED] = _1
    if not made and U(kind - _UC_READ) == _FETCH:
        state[_LAST_SIZE] = _0  # the last block has run whole: it is its successor that does not
        if state[_EMITTED]:
            words(user[_P_NEAR])[_LAST_BLOCK] = _NONE
    return made


@kernel(types.boolean(USER, types.uint64, types.uint64))
def is_alias(user, frame, page):
    """Whether hooks of accesses, which are told frames, take `frame` for another linear page + 1 than `page`.

    From now on it is this one. The run stops, for the engine's TLB to lose the other, unless an instruction runs alone.
    """
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    reverse = words(user[_P_REVERSE])
    before, reverse[frame] = reverse[frame], page
    if before in (_0, page):
        return False
    state[_ALIASES] += _1
    slot = (frame & _RECENT_MASK) * _COLUMNS
    words(user[_P_LOAD])[slot] = _NONE
    words(user[_P_STORE])[slot] = _NONE
    if state[_PASS_ALIASES]:
        return False
    state[_STOP] = _S_ALIAS
    return True


@kernel(types.boolean(types.uint64, types.int32, types.CPointer(types.uint64), USER))
def fill(gva, kind, entry, user):
    """Do what :func:`on_fill` does."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    result = carray(user[_P_RESULT], (RESULT_WORDS,), np.uint64)
    access = U(kind - _UC_READ)
    if state[_STOP] == _S_FAULT:
        return False  # the run has ended with a fault, whose walk the result still holds
    if state[_FILLS_LEFT] == _0:
        state[_STOP] = _S_TLB_FULL
        return False
    state[_FILLS_LEFT] -= _1
    state[_FILLS] += _1
    if state[_ANSWERED]:
        if state[_STOP]:
            return False
        status = np.int64(result[_R_STATUS])
    elif state[_DETAIL] == _FULL:
        memory, context, memo = words(user[_P_MEMORY]), words(user[_P_CONTEXT]), words(user[_P_MEMO])
        status = walk_with_memo_from(memory, context, memo, gva, access, words(user[_P_RESULT]))
    else:
        status = counted_walk(user, gva, access)
    if status != _OK:
        if fill_device(user, access, status, entry):
            note_given(user, gva, result[_R_GSHIFT])
            return True
        state[_STOP] = _S_FAULT
        state[_FAULT_ACCESS] = access
        return False
    hpa = result[_R_HPA]
    rights = result[_R_RIGHTS]
    full = state[_DETAIL] == _FULL and state[_EMITTED] == _0
    frame, page = hpa >> _12, ((gva & _LOW) >> _12) + _1
    if access == _FETCH:
        rights &= _MAY_EXECUTE if state[_EMITTED] == _ACCESSES else _MAY_READ | _MAY_EXECUTE
        kept = may_execute(user, frame, page)
    elif rights & _MAY_WRITE and result[_R_DIRTY]:
        changes = has_code(user, frame)
        if full and changes:
            state[_EPOCH] += _EPOCH_ONE  # blocks counted so far are those of the old code
        if changes and rights & _MAY_EXECUTE:
            kept = may_do_both(user, frame, page)
        else:
            kept = may_store(user, frame, page)
            changes = False
        rights &= _MAY_READ | _MAY_WRITE | (_MAY_EXECUTE if changes and not full else _0)
    else:
        rights &= _MAY_READ
        kept = True
    if not kept or (full and is_alias(user, frame, page)):
        return False
    note_given(user, gva, result[_R_GSHIFT])
    entry[0] = hpa & ~_OFFSET
    carray(entry, (2,))[1] = rights
    return True


@kernel(types.void(types.int32, types.uint64, types.int32, USER))
def slow_access(kind, hpa, size, user):
    """The part of a data access that the recent pages do not answer."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    frame = hpa >> _12
    if frame >= state[_MEMORY_WORDS] >> _9:
        return  # memory of the engine's own: a descriptor table
    reverse = words(user[_P_REVERSE])
    # Linear pages are kept to 48 bits: the top one of them is the sign.
    gva = (((reverse[frame] - _1) << _12) ^ _SIGN) - _SIGN
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
        note_data(counter_of(user), hpa)
    if (hpa & _OFFSET) + U(size) > _PAGE or not recall_page(user, array, frame, frame):
        slow_access(kind, hpa, size, user)


@callback(types.void(HANDLE, USER))
def on_syscall(handle, user):
    """UC_HOOK_INSN for SYSCALL: stop behind the instruction."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    state[_STOP] = _S_SYSCALL
    emu_stop(user[_P_ENGINE])


@callback(types.void(HANDLE, types.uint32, USER))
def on_interrupt(handle, vector, user):
    """UC_HOOK_INTR: an exception or software interrupt; stop and leave its vector."""
    state = carray(user[_P_STATE], (_N_STATE,), np.uint64)
    state[_STOP] = _S_TRAP
    state[_VECTOR] = U(vector)
    emu_stop(user[_P_ENGINE])
