"""What is emitted at a block's start, by its clients in their order.

The slice, room for records, the request to stop (which the library looks for itself, too often), the count of the
block, the clock of the modelled TLB, the block's number, the look-up of its page, its own record.
"""

import numpy as np

from quire.arch import WORD
from quire.cpu.soft.tcg._kernels_operations import (
    ADD,
    CONTEXT_ENV,
    LD,
    ST,
    call_n,
    const_i32,
    const_i64,
    emit3,
    emit_call,
    emit_call_unless,
    emit_move,
    emit_sum,
    generator,
    new_label,
    set_label,
    temp_of,
)
from quire.cpu.soft.tcg._kernels_raw import load64, store64
from quire.cpu.soft.tcg.cells import Cell, Near, Record
from quire.cpu.soft.tcg.offsets import Condition, Offset, Opcode
from quire.kernels import kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_new_temp = generator("tcg_temp_new_internal", _WORD, _WORD, _HALF, _HALF)
_branch_i32 = generator("tcg_gen_brcondi_i32", types.void, _WORD, _HALF, _WORD, _HALF, _WORD)
_branch_i64 = generator("tcg_gen_brcond_i64", types.void, _WORD, _HALF, _WORD, _WORD, _WORD)

_C = {cell: U(8 * cell) for cell in Cell}
_FULL, _NEXT, _OFFSET, _RECORDS = _C[Cell.FULL], _C[Cell.NEXT], _C[Cell.NEAR_OFFSET], _C[Cell.RECORDS]
_MOVE, _PATCHED, _PATCHES = _C[Cell.PAGE_MOVE], _C[Cell.PATCHED], _C[Cell.PATCHES]
_FETCH, _SLICE_ENDS = _C[Cell.FETCH], _C[Cell.SLICE_ENDS]
_SLICED, _SUM_MOVE = _C[Cell.SLICED], _C[Cell.SUM_MOVE]
_N_CLOCK, _N_FETCH, _N_BLOCK = U(Near.CLOCK), U(Near.LAST_FETCH), U(Near.LAST_BLOCK)
_N_SLICE, _N_COUNTS, _R_WORDS = U(Near.SLICE), U(Near.COUNTS), U(8 * Record.WORDS)
_N_EXECUTED = U(Near.EXECUTED)
_EXIT = U(Offset.ENV_EXIT & WORD)
_LD_I32 = np.int32(Opcode.LD_I32)
_GE, _EQ = np.int32(Condition.GE), np.int32(Condition.EQ)
_I0 = np.int32(0)
_0, _1, _8, _12 = (U(n) for n in (0, 1, 8, 12))
_NONE = U(WORD)


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
    env = load64(tcg + CONTEXT_ENV) + tcg
    temp = _new_temp(tcg, _I0, _I0)
    emit3(tcg, _LD_I32, temp, env, _EXIT)
    label = new_label(tcg)
    _branch_i32(tcg, _GE, temp - tcg, _I0, label)
    store64(arguments, const_i64(tcg, engine) + tcg)
    store64(arguments + _8, const_i32(tcg, _I0) + tcg)
    call_n(tcg, function, _0, np.int32(2), arguments)
    set_label(tcg, label)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_slice(tcg, context, arguments):
    """Emit that the block takes one off the slice, and is not to run if there was none."""
    near = load64(context + _OFFSET)
    emit_sum(tcg, context, near + _N_SLICE, _NONE)
    emit_call_unless(tcg, context, arguments, _GE, load64(context + _SLICE_ENDS))


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_fetch(tcg, context, arguments):
    """Emit that the block's page is looked up if the last block's was another."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    number = load64(context + _NEXT)
    temp, page = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    emit3(tcg, LD, temp, env, near + _N_FETCH)
    pc = load64(load64(context + _RECORDS) + number * _R_WORDS)
    store64(context + _MOVE, emit_move(tcg, page, pc >> _12))
    label = new_label(tcg)
    _branch_i64(tcg, _EQ, temp - tcg, page - tcg, label)
    emit_call(tcg, context, arguments, load64(context + _FETCH))
    set_label(tcg, label)


@kernel(types.void(_WORD, _WORD, _WORD))
def emit_prologue(tcg, context, arguments):
    """Emit what counts a block: behind its exit check, so that one that does not run does not count."""
    env, near = load64(tcg + CONTEXT_ENV) + tcg, load64(context + _OFFSET)
    number = load64(context + _NEXT)
    emit_sum(tcg, context, near + _N_COUNTS + (number << U(3)), _1)
    clock, accesses = temp_of(tcg, context, _0), temp_of(tcg, context, _1)
    emit_move(tcg, accesses, number)
    emit3(tcg, ST, accesses, env, near + _N_BLOCK)
    if load64(context + _SLICED):
        emit3(tcg, LD, clock, env, near + _N_EXECUTED)
        store64(context + _SUM_MOVE, emit_move(tcg, accesses, _0))
        emit3(tcg, ADD, clock, clock, accesses)
        emit3(tcg, ST, clock, env, near + _N_EXECUTED)
    if load64(context + _FULL) == _0:
        return
    emit3(tcg, LD, clock, env, near + _N_CLOCK)
    note_patch(context, emit_move(tcg, accesses, _0), _NONE)
    emit3(tcg, ADD, clock, clock, accesses)
    emit3(tcg, ST, clock, env, near + _N_CLOCK)
    emit_fetch(tcg, context, arguments)
