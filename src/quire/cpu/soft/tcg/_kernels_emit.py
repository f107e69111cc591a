"""What stands between the library and its code generator: operations of Quire's at a block's start, behind accesses.

Each is called in place of the function of the library that it is named after, for every engine of the process; engines
without a context get what the library does. A temporary does not outlive a branch, so that what is needed behind one is
made behind it.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft.tcg._kernels_raw import context_of, load16, load64, store8, store16, store64
from quire.cpu.soft.tcg._kernels_repairs import emit_repaired, repair_of, turn_call
from quire.cpu.soft.tcg.cells import LOG_BYTES, SLOTS, Cell, Near, Record
from quire.cpu.soft.tcg.offsets import Condition, Offset, Opcode
from quire.kernels import callback, kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32


def _library(name, result, *arguments):
    return types.ExternalFunction(f"{name}_x86_64", result(*arguments))


_call_n = _library("tcg_gen_callN", types.void, _WORD, _WORD, _WORD, _HALF, _WORD)
_new_label = _library("gen_new_label", _WORD, _WORD)
_load_i32 = _library("tcg_gen_qemu_ld_i32", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_load_i64 = _library("tcg_gen_qemu_ld_i64", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_store_i32 = _library("tcg_gen_qemu_st_i32", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_store_i64 = _library("tcg_gen_qemu_st_i64", types.void, _WORD, _WORD, _WORD, _WORD, _HALF)
_new_temp = _library("tcg_temp_new_internal", _WORD, _WORD, _HALF, _HALF)
_const_i64 = _library("tcg_const_i64", _WORD, _WORD, _WORD)
_const_i32 = _library("tcg_const_i32", _WORD, _WORD, _HALF)
_emit_op = _library("tcg_emit_op", _WORD, _WORD, _HALF)
_add_i64 = _library("tcg_gen_addi_i64", types.void, _WORD, _WORD, _WORD, types.int64)
_shift_i64 = _library("tcg_gen_shri_i64", types.void, _WORD, _WORD, _WORD, types.int64)
_and_i64 = _library("tcg_gen_andi_i64", types.void, _WORD, _WORD, _WORD, types.int64)
_branch_i32 = _library("tcg_gen_brcondi_i32", types.void, _WORD, _HALF, _WORD, _HALF, _WORD)
_branch_i64 = _library("tcg_gen_brcond_i64", types.void, _WORD, _HALF, _WORD, _WORD, _WORD)

_branch_zero = _library("tcg_gen_brcondi_i64", types.void, _WORD, _HALF, _WORD, types.int64, _WORD)

_C = {cell: U(8 * cell) for cell in Cell}
_FULL, _NEXT = _C[Cell.FULL], _C[Cell.NEXT]
_OFFSET = _C[Cell.NEAR_OFFSET]
_RECORDS, _LOG, _LOGGED, _TCG = _C[Cell.RECORDS], _C[Cell.LOG], _C[Cell.LOGGED], _C[Cell.TCG]
_BEGUN, _LABELLED, _ACCESSES = _C[Cell.BEGUN], _C[Cell.LABELLED], _C[Cell.ACCESSES]
_WRITES, _TEMPS = _C[Cell.WRITES], _C[Cell.TEMPS]
_MOVE, _PATCHED, _PATCHES = _C[Cell.PAGE_MOVE], _C[Cell.PATCHED], _C[Cell.PATCHES]
_COUNTS, _SLICED, _SLICE_ENDS = _C[Cell.COUNTS], _C[Cell.SLICED], _C[Cell.SLICE_ENDS]
_FETCH, _CHECK, _SPLIT = _C[Cell.FETCH], _C[Cell.CHECK], _C[Cell.SPLIT]
_ALL, _CARRY, _GOTO = _C[Cell.PURE_ALL], _C[Cell.PURE_CARRY], _C[Cell.PURE_NEXT]
_N_CLOCK, _N_FETCH, _N_BLOCK = U(Near.CLOCK), U(Near.LAST_FETCH), U(Near.LAST_BLOCK)
_N_DONE, _N_READS, _N_WRITES = U(Near.DONE), U(Near.READS), U(Near.WRITES)
_N_SLICE = U(Near.SLICE)
_N_STAMPS, _N_COUNTS = U(Near.STAMPS), U(Near.COUNTS)
_STORE_STAMPS = U(8 * SLOTS)
_R_WORDS = U(8 * Record.WORDS)
_CONTEXT_UC, _CONTEXT_ENV, _CPU_ENV = U(Offset.CONTEXT_UC), U(Offset.CONTEXT_ENV), U(Offset.CPU_ENV)
_UC_CPU, _ARGUMENTS = U(Offset.UC_CPU), U(Offset.OP_ARGUMENTS)
_EXIT = U(Offset.ENV_EXIT & WORD)
_SET_LABEL, _LD_I32, _MOVI = np.int32(Opcode.SET_LABEL), np.int32(Opcode.LD_I32), np.int32(Opcode.MOVI_I64)
_LD, _ST, _ADD = np.int32(Opcode.LD_I64), np.int32(Opcode.ST_I64), np.int32(Opcode.ADD_I64)
_GE, _EQ = np.int32(Condition.GE), np.int32(Condition.EQ)
_I0, _I1 = np.int32(0), np.int32(1)
_0, _1, _2, _8, _12, _16 = (U(n) for n in (0, 1, 2, 8, 12, 16))
_NONE = U(WORD)
_MASK = np.int64((SLOTS - 1) << 3)
_LAST_LOG = U(LOG_BYTES - 1)
#: How an access is marked for the function that meets its miss: accesses done before it, and whether it is counted
#: as it happens.
_DONE_SHIFT, _AS_IT_HAPPENS = U(12), U(1 << 27)


@kernel(types.uint64(types.uint64), inline="always")
def any_context(tcg):
    """Return the context of the engine that translates with `tcg`, its TCGContext, or 0."""
    return context_of(load64(load64(load64(tcg + _CONTEXT_UC) + _UC_CPU) + _CPU_ENV))


@kernel(types.uint64(types.uint64))
def context_of_generator(tcg):
    """Return the context of an engine that counts, or 0."""
    context = any_context(tcg)
    return context if context and load64(context + _COUNTS) else _0


@kernel(types.void(_WORD, _HALF, _WORD, _WORD, _WORD), inline="always")
def emit3(tcg, opcode, first, second, third):
    """Emit an operation of three arguments."""
    op = _emit_op(tcg, opcode)
    store64(op + _ARGUMENTS, first)
    store64(op + _ARGUMENTS + _8, second)
    store64(op + _ARGUMENTS + _16, third)


@kernel(types.uint64(_WORD, _WORD, _WORD), inline="always")
def emit_move(tcg, temp, value):
    """Emit the move of a constant, and return the operation."""
    op = _emit_op(tcg, _MOVI)
    store64(op + _ARGUMENTS, temp)
    store64(op + _ARGUMENTS + _8, value)
    return op


@kernel(types.void(_WORD, _WORD))
def set_label(tcg, label):
    """Put `label` here."""
    store16(label, np.uint16(load16(label) | np.uint16(1)))
    store64(_emit_op(tcg, _SET_LABEL) + _ARGUMENTS, label)


@kernel(types.uint64(_WORD, _WORD, _WORD))
def temp_of(tcg, context, number):
    """Return one of the block's temporaries, of which a generator has not many: what it holds is soon forgotten."""
    at = context + _TEMPS + (number << U(3))
    if load64(at) == _0:
        store64(at, _new_temp(tcg, _I1, _I0))
    return load64(at)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def emit_sum(tcg, context, at, amount):
    """Emit that the cell at `at`, from the CPU state, grows by `amount`."""
    env, temp = load64(tcg + _CONTEXT_ENV) + tcg, temp_of(tcg, context, _0)
    emit3(tcg, _LD, temp, env, at)
    _add_i64(tcg, temp - tcg, temp - tcg, np.int64(amount))
    emit3(tcg, _ST, temp, env, at)


@kernel(types.void(_WORD, _WORD, _WORD))
def note_patch(context, op, done):
    """Remember that the constant of `op` is to be `done` less the block's accesses."""
    number = load64(context + _PATCHED)
    at = load64(context + _PATCHES) + (number << U(4))
    store64(at, op)
    store64(at + _8, done)
    store64(context + _PATCHED, number + _1)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def emit_exit_check(tcg, function, arguments, engine):
    """Emit the library's exit check, called only if somebody wants the CPU to leave its loop."""
    env = load64(tcg + _CONTEXT_ENV) + tcg
    temp = _new_temp(tcg, _I0, _I0)
    emit3(tcg, _LD_I32, temp, env, _EXIT)
    label = _new_label(tcg)
    _branch_i32(tcg, _GE, temp - tcg, _I0, label)
    store64(arguments, _const_i64(tcg, engine) + tcg)
    store64(arguments + _8, _const_i32(tcg, _I0) + tcg)
    _call_n(tcg, function, _0, np.int32(2), arguments)
    set_label(tcg, label)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def emit_call(tcg, context, arguments, function):
    """Emit a call of `function` of Quire's, which gets the context and the block's number.

    The generator knows the library's functions only: the call is made for one of the same kind, then turned.
    """
    store64(arguments, _const_i64(tcg, context) + tcg)
    store64(arguments + _8, _const_i32(tcg, np.int32(load64(context + _NEXT))) + tcg)
    _call_n(tcg, load64(context + _CHECK), _0, np.int32(2), arguments)
    turn_call(tcg, _2, function)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_slice(tcg, context, arguments):
    """Emit that the block takes one off the slice, and is not to run if there was none."""
    near = load64(context + _OFFSET)
    emit_sum(tcg, context, near + _N_SLICE, _NONE)
    label = _new_label(tcg)
    _branch_zero(tcg, _GE, temp_of(tcg, context, _0) - tcg, np.int64(0), label)
    emit_call(tcg, context, arguments, load64(context + _SLICE_ENDS))
    set_label(tcg, label)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_fetch(tcg, context, arguments):
    """Emit that the block's page is looked up if the last block's was another."""
    env, near = load64(tcg + _CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    number = load64(context + _NEXT)
    temp, page = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    emit3(tcg, _LD, temp, env, near + _N_FETCH)
    pc = load64(load64(context + _RECORDS) + number * _R_WORDS)
    store64(context + _MOVE, emit_move(tcg, page, pc >> _12))
    label = _new_label(tcg)
    _branch_i64(tcg, _EQ, temp - tcg, page - tcg, label)
    emit_call(tcg, context, arguments, load64(context + _FETCH))
    set_label(tcg, label)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_prologue(tcg, context, arguments):
    """Emit what counts a block: behind its exit check, so that one that does not run does not count."""
    env, near = load64(tcg + _CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    number = load64(context + _NEXT)
    emit_sum(tcg, context, near + _N_COUNTS + (number << U(3)), _1)
    clock, accesses = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    emit_move(tcg, accesses, number)
    emit3(tcg, _ST, accesses, env, near + _N_BLOCK)
    if load64(context + _FULL) == _0:
        return
    emit3(tcg, _LD, clock, env, near + _N_CLOCK)
    note_patch(context, emit_move(tcg, accesses, _0), _NONE)
    emit3(tcg, _ADD, clock, clock, accesses)
    emit3(tcg, _ST, clock, env, near + _N_CLOCK)
    emit_fetch(tcg, context, arguments)


@callback(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def on_call(tcg, function, result, number, arguments):
    """tcg_gen_callN: the first exit check of a block is its start; what else may not come back notes what is done."""
    context = any_context(tcg)
    row = repair_of(context, function) if context else _0
    if row:
        emit_repaired(tcg, context, row, result, number, arguments)
        return
    if context == _0 or load64(context + _COUNTS) == _0:
        _call_n(tcg, function, result, number, arguments)
        return
    if function == load64(context + _CHECK):
        if load64(context + _BEGUN):
            _call_n(tcg, function, result, number, arguments)
            return
        store64(context + _BEGUN, _1)
        store64(context + _TCG, tcg)
        if load64(context + _SLICED):
            emit_slice(tcg, context, arguments)
        emit_exit_check(tcg, function, arguments, load64(tcg + _CONTEXT_UC))
        emit_prologue(tcg, context, arguments)
        return
    pure = function == load64(context + _ALL) or function == load64(context + _CARRY)
    if (
        load64(context + _FULL)
        and load64(context + _BEGUN)
        and not pure
        and function != load64(context + _GOTO)
    ):
        env, near = load64(tcg + _CONTEXT_ENV) + tcg, load64(context + _OFFSET)
        temp = temp_of(tcg, context, _0)
        emit_move(tcg, temp, load64(context + _ACCESSES))
        emit3(tcg, _ST, temp, env, near + _N_DONE)
    _call_n(tcg, function, result, number, arguments)


@callback(types.uint64(_WORD))
def on_new_label(tcg):
    """gen_new_label: what follows in the block may be jumped over."""
    context = context_of_generator(tcg)
    if context:
        store64(context + _LABELLED, _1)
    return _new_label(tcg)


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
    env, near = load64(tcg + _CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    clock, temp, slot = temp_of(tcg, context, _0), temp_of(tcg, context, _1), temp_of(tcg, context, _2)
    done = (U(marked) >> _DONE_SHIFT) & U(0x7FFF)
    if U(marked) & _AS_IT_HAPPENS:
        emit_sum(tcg, context, near + _N_CLOCK, _1)
        emit_sum(tcg, context, near + (_N_WRITES if write else _N_READS), _1)
    else:
        done += _1
    emit3(tcg, _LD, clock, env, near + _N_CLOCK)
    note_patch(context, emit_move(tcg, temp, _0), done)
    emit3(tcg, _ADD, clock, clock, temp)
    emit3(tcg, _ADD, slot, slot, env)
    table = near + _N_STAMPS
    if write and load64(context + _SPLIT):
        table += _STORE_STAMPS
    emit3(tcg, _ST, clock, slot, table)


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
    if context == _0 or load64(context + _FULL) == _0:
        library_access(tcg, value, address, index, memop, write, wide)
        return
    emit_slot(tcg, context, address)
    marked = mark_access(context, memop, write)
    library_access(tcg, value, address, index, marked, write, wide)
    emit_stamp(tcg, context, marked, write)


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
