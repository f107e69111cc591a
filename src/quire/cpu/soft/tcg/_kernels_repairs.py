"""The call of a helper that the library computes wrongly becomes one of what stands for it, when code is translated."""

import numpy as np

from quire.cpu.soft.tcg._kernels_raw import do1, load8, load64, store64
from quire.cpu.soft.tcg.cells import REPAIRS, Cell, Repair
from quire.cpu.soft.tcg.offsets import Offset, Opcode
from quire.kernels import kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_call_n = types.ExternalFunction("tcg_gen_callN_x86_64", types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
_const_i32 = types.ExternalFunction("tcg_const_i32_x86_64", _WORD(_WORD, _HALF))
_const_i64 = types.ExternalFunction("tcg_const_i64_x86_64", _WORD(_WORD, _WORD))
_free_temp = types.ExternalFunction("tcg_temp_free_internal_x86_64", types.void(_WORD, _WORD))

_TABLE, _PROTOTYPE, _CALL = U(8 * Cell.REPAIRS), U(8 * Cell.PROTOTYPE), U(8 * Cell.CALL)
_RESOLVE = U(8 * Cell.RESOLVE)
_STAND_IN, _OPERATION, _RAISES = U(8 * Repair.STAND_IN), U(8 * Repair.OPERATION), U(8 * Repair.RAISES)
_ROW, _MASK = U(8 * Repair.WORDS), U(REPAIRS - 1)
_LAST, _LINK, _ARGUMENTS = U(Offset.CONTEXT_LAST_OP), U(Offset.OP_LINK), U(Offset.OP_ARGUMENTS)
_PREVIOUS, _INSN_START = U(Offset.OP_PREVIOUS), np.uint8(Opcode.INSN_START)
_0, _1, _2, _3, _4, _8, _16 = (U(n) for n in (0, 1, 2, 3, 4, 8, 16))


@kernel(_WORD(_WORD, _WORD))
def repair_of(context, helper):
    """Return the row of `helper` in the table of repairs, 0 if it has none."""
    table = load64(context + _TABLE)
    at = (helper >> _4) & _MASK
    for _ in range(REPAIRS if table else 0):
        row = table + at * _ROW
        if load64(row) == helper:
            if load64(row + _STAND_IN) == _0:
                do1(load64(context + _RESOLVE), (at,))
            return row if load64(row + _STAND_IN) else _0
        if load64(row) == _0:
            break
        at = (at + _1) & _MASK
    return _0


@kernel(types.void(_WORD, _WORD, _WORD), inline="always")
def turn_call(tcg, words, function):
    """Have the call emitted last, of so many arguments and results, be one of `function`."""
    made = load64(tcg + _LAST) - _LINK
    store64(made + _ARGUMENTS + (words << _3), function)


@kernel(_WORD(_WORD))
def instruction_start(tcg):
    """Return the operation that says where the instruction begins that is being translated, and how its flags are."""
    op = load64(tcg + _LAST) - _LINK
    while load8(op) != _INSN_START:
        op = load64(op + _PREVIOUS) - _LINK
    return op


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _HALF, _WORD))
def emit_repaired(tcg, context, row, result, number, arguments):
    """Emit the call of what stands for a helper, with the helper's arguments and more.

    The generator knows the library's helpers only: the call is made for one of them, then turned.
    """
    call, operation, count = context + _CALL, load64(row + _OPERATION), U(number)
    for argument in range(number):
        store64(call + (U(argument) << _3), load64(arguments + (U(argument) << _3)))
    place = _0
    if load64(row + _RAISES):
        start = instruction_start(tcg)
        operation |= load64(start + _ARGUMENTS + _8) << _16
        place = _const_i64(tcg, load64(start + _ARGUMENTS)) + tcg
        store64(call + (count + _1 << _3), place)
    what = _const_i32(tcg, np.int32(operation)) + tcg
    store64(call + (count << _3), what)
    count += _2 if place else _1
    _call_n(tcg, load64(context + _PROTOTYPE), result, np.int32(count), call)
    turn_call(tcg, count + (_1 if result else _0), load64(row + _STAND_IN))
    _free_temp(tcg, what)
    if place:
        _free_temp(tcg, place)
