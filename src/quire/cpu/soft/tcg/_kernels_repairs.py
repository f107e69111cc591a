"""The call of a helper that the library computes wrongly becomes one of what stands for it, when code is translated."""

import numpy as np

from quire.cpu.soft.tcg._kernels_raw import do1, load64, store64
from quire.cpu.soft.tcg.cells import REPAIRS, Cell, Repair
from quire.cpu.soft.tcg.offsets import Offset
from quire.kernels import kernel, types

U = np.uint64
_WORD, _HALF = types.uint64, types.int32

_call_n = types.ExternalFunction("tcg_gen_callN_x86_64", types.void(_WORD, _WORD, _WORD, _HALF, _WORD))
_const_i32 = types.ExternalFunction("tcg_const_i32_x86_64", _WORD(_WORD, _HALF))
_free_temp = types.ExternalFunction("tcg_temp_free_internal_x86_64", types.void(_WORD, _WORD))

_TABLE, _PROTOTYPE, _CALL = U(8 * Cell.REPAIRS), U(8 * Cell.PROTOTYPE), U(8 * Cell.CALL)
_RESOLVE = U(8 * Cell.RESOLVE)
_STAND_IN, _OPERATION = U(8 * Repair.STAND_IN), U(8 * Repair.OPERATION)
_ROW, _MASK = U(8 * Repair.WORDS), U(REPAIRS - 1)
_LAST, _LINK, _ARGUMENTS = U(Offset.CONTEXT_LAST_OP), U(Offset.OP_LINK), U(Offset.OP_ARGUMENTS)
_0, _1, _3, _4 = (U(n) for n in (0, 1, 3, 4))
_I1 = np.int32(1)


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
            return row
        if load64(row) == _0:
            break
        at = (at + _1) & _MASK
    return _0


@kernel(types.void(_WORD, _WORD, _WORD), inline="always")
def turn_call(tcg, words, function):
    """Have the call emitted last, of so many arguments and results, be one of `function`."""
    made = load64(tcg + _LAST) - _LINK
    store64(made + _ARGUMENTS + (words << _3), function)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _HALF, _WORD))
def emit_repaired(tcg, context, row, result, number, arguments):
    """Emit the call of what stands for a helper, with the helper's arguments and one more.

    The generator knows the library's helpers only: the call is made for one of them, then turned.
    """
    call = context + _CALL
    for argument in range(number):
        store64(call + (U(argument) << _3), load64(arguments + (U(argument) << _3)))
    operation = _const_i32(tcg, np.int32(load64(row + _OPERATION))) + tcg
    store64(call + (U(number) << _3), operation)
    _call_n(tcg, load64(context + _PROTOTYPE), result, number + _I1, call)
    turn_call(tcg, U(number) + _1 + (_1 if result else _0), load64(row + _STAND_IN))
    _free_temp(tcg, operation)
