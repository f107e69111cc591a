"""Operations that are emitted into the engine's code, in the generator's terms.

A temporary does not outlive a branch, so that what is needed behind one is made behind it.
"""

import numpy as np

from quire.cpu.soft.tcg._kernels_raw import context_of, load16, load64, store16, store64
from quire.cpu.soft.tcg._kernels_repairs import turn_call
from quire.cpu.soft.tcg.cells import Cell
from quire.cpu.soft.tcg.offsets import Offset, Opcode
from quire.kernels import kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32


def generator(name, result, *arguments):
    """Return a function of the library's code generator."""
    return types.ExternalFunction(f"{name}_x86_64", result(*arguments))


new_label = generator("gen_new_label", _WORD, _WORD)
_branch_zero = generator("tcg_gen_brcondi_i64", types.void, _WORD, _HALF, _WORD, types.int64, _WORD)
call_n = generator("tcg_gen_callN", types.void, _WORD, _WORD, _WORD, _HALF, _WORD)
_new_temp = generator("tcg_temp_new_internal", _WORD, _WORD, _HALF, _HALF)
const_i64 = generator("tcg_const_i64", _WORD, _WORD, _WORD)
const_i32 = generator("tcg_const_i32", _WORD, _WORD, _HALF)
_emit_op = generator("tcg_emit_op", _WORD, _WORD, _HALF)
add_i64 = generator("tcg_gen_addi_i64", types.void, _WORD, _WORD, _WORD, types.int64)

_C = {cell: U(8 * cell) for cell in Cell}
_COUNTS, _CHECK, _NEXT, _TEMPS = _C[Cell.COUNTS], _C[Cell.CHECK], _C[Cell.NEXT], _C[Cell.TEMPS]
CONTEXT_ENV, _CPU_ENV = U(Offset.CONTEXT_ENV), U(Offset.CPU_ENV)
CONTEXT_UC, _UC_CPU, _ARGUMENTS = U(Offset.CONTEXT_UC), U(Offset.UC_CPU), U(Offset.OP_ARGUMENTS)
_SET_LABEL, _MOVI = np.int32(Opcode.SET_LABEL), np.int32(Opcode.MOVI_I64)
LD, ST, ADD = np.int32(Opcode.LD_I64), np.int32(Opcode.ST_I64), np.int32(Opcode.ADD_I64)
_I0, _I1 = np.int32(0), np.int32(1)
_0, _2, _8, _16 = (U(n) for n in (0, 2, 8, 16))


@kernel(types.uint64(types.uint64), inline="always")
def any_context(tcg):
    """Return the context of the engine that translates with `tcg`, its TCGContext, or 0."""
    return context_of(load64(load64(load64(tcg + CONTEXT_UC) + _UC_CPU) + _CPU_ENV))


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
    env, temp = load64(tcg + CONTEXT_ENV) + tcg, temp_of(tcg, context, _0)
    emit3(tcg, LD, temp, env, at)
    add_i64(tcg, temp - tcg, temp - tcg, np.int64(amount))
    emit3(tcg, ST, temp, env, at)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def emit_call(tcg, context, arguments, function):
    """Emit a call of `function` of Quire's, which gets the context and the block's number.

    The generator knows the library's functions only: the call is made for one of the same kind, then turned.
    """
    store64(arguments, const_i64(tcg, context) + tcg)
    store64(arguments + _8, const_i32(tcg, np.int32(load64(context + _NEXT))) + tcg)
    call_n(tcg, load64(context + _CHECK), _0, np.int32(2), arguments)
    turn_call(tcg, _2, function)


@kernel(types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
def emit_call_unless(tcg, context, arguments, condition, function):
    """Emit that call, unless the first of the block's temporaries is as `condition` says to 0."""
    label = new_label(tcg)
    _branch_zero(tcg, condition, temp_of(tcg, context, _0) - tcg, np.int64(0), label)
    emit_call(tcg, context, arguments, function)
    set_label(tcg, label)
