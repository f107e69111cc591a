"""What stands between the library and its code generator: operations of Quire's at a block's start, behind accesses.

Each is called in place of the function of the library that it is named after, for every engine of the process; engines
without a context get what the library does.
"""

import numpy as np

from quire.cpu.soft.tcg._kernels_operations import (
    ADD,
    CONTEXT_ENV,
    CONTEXT_UC,
    LD,
    ST,
    any_context,
    call_n,
    context_of_generator,
    emit3,
    emit_move,
    emit_sum,
    generator,
    new_label,
    temp_of,
)
from quire.cpu.soft.tcg._kernels_prologue import emit_exit_check, emit_prologue, emit_slice, note_patch
from quire.cpu.soft.tcg._kernels_raw import load64, store8, store64
from quire.cpu.soft.tcg._kernels_recording import (
    emit_access_entry,
    emit_address,
    emit_block_entry,
    emit_place,
    emit_room,
)
from quire.cpu.soft.tcg._kernels_repairs import emit_repaired, repair_of
from quire.cpu.soft.tcg.cells import LOG_BYTES, SLOTS, Cell, Near
from quire.kernels import callback, kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_load_i32 = generator("tcg_gen_qemu_ld_i32", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_load_i64 = generator("tcg_gen_qemu_ld_i64", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_store_i32 = generator("tcg_gen_qemu_st_i32", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_store_i64 = generator("tcg_gen_qemu_st_i64", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_shift_i64 = generator("tcg_gen_shri_i64", types.void, _WORD, _WORD, _WORD, types.int64)
_and_i64 = generator("tcg_gen_andi_i64", types.void, _WORD, _WORD, _WORD, types.int64)

_C = {cell: U(8 * cell) for cell in Cell}
_FULL, _OFFSET, _TCG = _C[Cell.FULL], _C[Cell.NEAR_OFFSET], _C[Cell.TCG]
_LOG, _LOGGED = _C[Cell.LOG], _C[Cell.LOGGED]
_BEGUN, _LABELLED, _ACCESSES, _WRITES = _C[Cell.BEGUN], _C[Cell.LABELLED], _C[Cell.ACCESSES], _C[Cell.WRITES]
_RECORDING = _C[Cell.RECORDING]
_COUNTS, _SLICED, _CHECK, _SPLIT = _C[Cell.COUNTS], _C[Cell.SLICED], _C[Cell.CHECK], _C[Cell.SPLIT]
_ALL, _CARRY, _GOTO = _C[Cell.PURE_ALL], _C[Cell.PURE_CARRY], _C[Cell.PURE_NEXT]
_N_CLOCK, _N_DONE, _N_READS = U(Near.CLOCK), U(Near.DONE), U(Near.READS)
_N_WRITES, _N_STAMPS, _STORE_STAMPS = U(Near.WRITES), U(Near.STAMPS), U(8 * SLOTS)
_0, _1, _2 = (U(n) for n in (0, 1, 2))
_MASK = np.int64((SLOTS - 1) << 3)
_LAST_LOG = U(LOG_BYTES - 1)
#: How an access is marked for the function that meets its miss: accesses done before it, and whether it is counted
#: as it happens.
_DONE_SHIFT, _AS_IT_HAPPENS = U(12), U(1 << 27)


@kernel(types.boolean(_WORD, _WORD), inline="always")
def is_pure(context, function):
    """Whether a function of the library is one that is called often, and touches no memory of the guest."""
    return (
        function == load64(context + _ALL)
        or function == load64(context + _CARRY)
        or function == load64(context + _GOTO)
    )


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_call(tcg, function, result, number, arguments):
    """tcg_gen_callN: the first exit check of a block is its start; what else may not come back notes what is done."""
    context = any_context(tcg)
    row = repair_of(context, function) if context else _0
    if row:
        emit_repaired(tcg, context, row, result, number, arguments)
        return
    if context == _0 or load64(context + _COUNTS) == _0:
        call_n(tcg, function, result, number, arguments)
        return
    if function == load64(context + _CHECK):
        if load64(context + _BEGUN):
            call_n(tcg, function, result, number, arguments)
            return
        store64(context + _BEGUN, _1)
        store64(context + _TCG, tcg)
        if load64(context + _SLICED):
            emit_slice(tcg, context, arguments)
        if load64(context + _RECORDING):
            emit_room(tcg, context, arguments)
        emit_exit_check(tcg, function, arguments, load64(tcg + CONTEXT_UC))
        emit_prologue(tcg, context, arguments)
        if load64(context + _RECORDING):
            emit_block_entry(tcg, context)
        return
    if load64(context + _BEGUN) == _0 or is_pure(context, function):
        call_n(tcg, function, result, number, arguments)
        return
    if load64(context + _RECORDING):
        emit_place(tcg, context)
    if load64(context + _FULL):
        env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
        temp = temp_of(tcg, context, _0)
        emit_move(tcg, temp, load64(context + _ACCESSES))
        emit3(tcg, ST, temp, env, near + _N_DONE)
    call_n(tcg, function, result, number, arguments)


@callback(types.uint64(_WORD))
def on_new_label(tcg):
    """gen_new_label: what follows in the block may be jumped over."""
    context = context_of_generator(tcg)
    if context:
        store64(context + _LABELLED, _1)
    return new_label(tcg)


@kernel(types.int32(_WORD, _HALF, _WORD))
def mark_access(context, memop, write):
    """Return `memop` with what the access is, which is noted in the block's record."""
    done = load64(context + _ACCESSES)
    if load64(context + _LABELLED) or load64(context + _LOGGED) + done >= _LAST_LOG:
        return np.int32(U(memop) | done << _DONE_SHIFT | _AS_IT_HAPPENS)
    store8(load64(context + _LOG) + load64(context + _LOGGED) + done, np.uint8(write))
    store64(context + _ACCESSES, done + _1)
    store64(context + _WRITES, load64(context + _WRITES) + write)
    return np.int32(U(memop) | done << _DONE_SHIFT)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_slot(tcg, context, address):
    """Emit, before an access, where its page's stamp is: the access may change the register of the address."""
    slot = temp_of(tcg, context, _2)
    _shift_i64(tcg, slot - tcg, address, np.int64(9))
    _and_i64(tcg, slot - tcg, slot - tcg, _MASK)


@kernel(types.void(_WORD, _WORD, _HALF, _WORD))
def emit_stamp(tcg, context, marked, write):
    """Emit, behind an access, the stamp of its page, and its count if that is made as it happens."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    clock, temp, slot = temp_of(tcg, context, _0), temp_of(tcg, context, _1), temp_of(tcg, context, _2)
    done = (U(marked) >> _DONE_SHIFT) & U(0x7FFF)
    if U(marked) & _AS_IT_HAPPENS:
        emit_sum(tcg, context, near + _N_CLOCK, _1)
        emit_sum(tcg, context, near + (_N_WRITES if write else _N_READS), _1)
    else:
        done += _1
    emit3(tcg, LD, clock, env, near + _N_CLOCK)
    note_patch(context, emit_move(tcg, temp, _0), done)
    emit3(tcg, ADD, clock, clock, temp)
    emit3(tcg, ADD, slot, slot, env)
    table = near + _N_STAMPS
    if write and load64(context + _SPLIT):
        table += _STORE_STAMPS
    emit3(tcg, ST, clock, slot, table)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _HALF, _WORD, _WORD))
def library_access(tcg, value, address, index, memop, write, wide):
    """Emit the library's operation of an access, of 64 bits if `wide`."""
    if write:
        if wide:
            _store_i64(tcg, value, address, index, memop)
        else:
            _store_i32(tcg, value, address, index, memop)
    elif wide:
        _load_i64(tcg, value, address, index, memop)
    else:
        _load_i32(tcg, value, address, index, memop)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _HALF, _WORD, _WORD))
def emit_access(tcg, value, address, index, memop, write, wide):
    """Emit an access of the guest, with a stamp behind it if the engine has a context that wants it."""
    context = context_of_generator(tcg)
    if context == _0:
        library_access(tcg, value, address, index, memop, write, wide)
        return
    full, recording, marked = load64(context + _FULL), load64(context + _RECORDING), memop
    if recording:
        emit_address(tcg, context, address)
    if full:
        emit_slot(tcg, context, address)
        marked = mark_access(context, memop, write)
    library_access(tcg, value, address, index, marked, write, wide)
    if full:
        emit_stamp(tcg, context, marked, write)
    if recording:
        emit_access_entry(tcg, context, memop, write)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _HALF))
def on_load_i32(tcg, value, address, index, memop):
    """tcg_gen_qemu_ld_i32."""
    emit_access(tcg, value, address, index, memop, _0, _0)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _HALF))
def on_load_i64(tcg, value, address, index, memop):
    """tcg_gen_qemu_ld_i64."""
    emit_access(tcg, value, address, index, memop, _0, _1)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _HALF))
def on_store_i32(tcg, value, address, index, memop):
    """tcg_gen_qemu_st_i32."""
    emit_access(tcg, value, address, index, memop, _1, _0)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _HALF))
def on_store_i64(tcg, value, address, index, memop):
    """tcg_gen_qemu_st_i64."""
    emit_access(tcg, value, address, index, memop, _1, _1)
