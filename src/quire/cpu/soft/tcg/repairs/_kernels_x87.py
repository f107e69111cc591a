"""What stands for helpers of x87 instructions: the processor's own, under the guest's control word.

Exceptions set the status word's flags, and its summary if the guest does not mask one; the next waiting instruction is
what such an exception happens at, as the library has it.
"""

import numpy as np

from quire.cpu.soft.tcg._kernels_raw import load16, load32, load64, store8, store16, store32, store64
from quire.cpu.soft.tcg.offsets import Offset
from quire.cpu.soft.tcg.repairs.operations import X87, Status
from quire.kernels import callback, compiled_by, kernel, types

U = np.uint64
_WORD = types.uint64

_BY = "quire.cpu.soft.tcg.repairs._intrinsics"
x87, cell = compiled_by(_BY, "x87"), compiled_by(_BY, "cell")
control, set_control = compiled_by(_BY, "control"), compiled_by(_BY, "set_control")
status, clear_status = compiled_by(_BY, "status"), compiled_by(_BY, "clear_status")
_CODE = repr(X87)  # what the above is made from
_TOP, _STATUS, _CONTROL = U(Offset.ENV_FPSTT), U(Offset.ENV_FPUS), U(Offset.ENV_FPUC)
_TAGS, _REGISTERS, _FT0 = U(Offset.ENV_FPTAGS), U(Offset.ENV_FPREGS), U(Offset.ENV_FT0)
_CC_SRC = U(Offset.ENV_CC_SRC)
_FLAGS, _SUMMARY, _C2 = U(0x3F), U(0x8080), U(Status.C2)
_CODES, _COMPARED = U(0xFFFF), U(0x45)
_0, _1, _4, _7, _8, _16 = (U(n) for n in (0, 1, 4, 7, 8, 16))


@kernel(_WORD(_WORD, _WORD), inline="always")
def register(env, number):
    """Return where ST(`number`) is."""
    return env + _REGISTERS + (((U(load32(env + _TOP)) + number) & _7) << _4)


@kernel(_WORD(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD, _WORD))
def execute(env, operation, first, second, result, other, word):
    """Execute an operation, note its exceptions and conditions, and return the status word that it left."""
    held, host, allowed = U(load16(env + _STATUS)), control(), U(load16(env + _CONTROL))
    wanted = allowed | _FLAGS
    if host != wanted:
        set_control(wanted)
    if status() & _FLAGS & ~held:
        clear_status()  # of what the guest has not met
    x87(operation & _CODES, (first, second, result, other, word))
    left = status()
    if host != wanted:
        set_control(host)
    sets = (operation >> _16) & _CODES
    held = (held & ~sets) | (left & (sets | _FLAGS))
    if held & _FLAGS & ~allowed:
        held |= _SUMMARY
    store16(env + _STATUS, np.uint16(held))
    return left


@kernel(types.void(_WORD, _WORD))
def keep(at, result):
    """Give the register at `at` the number at `result`."""
    store64(at, load64(result))
    store16(at + _8, load16(result + _8))


@kernel(types.void(_WORD, _WORD))
def pop(env, result):
    """Give ST(1) the number at `result`, and free ST(0)."""
    keep(register(env, _1), result)
    top = U(load32(env + _TOP))
    store8(env + _TAGS + top, np.uint8(1))
    store32(env + _TOP, np.uint32((top + _1) & _7))


@kernel(types.void(_WORD, _WORD))
def push(env, result):
    """Have a new ST(0), the number at `result`."""
    top = (U(load32(env + _TOP)) + _7) & _7
    store32(env + _TOP, np.uint32(top))
    store8(env + _TAGS + top, np.uint8(0))
    keep(register(env, _0), result)


@callback(types.void(_WORD, _WORD))
def on_top(env, operation):
    """helper_fsqrt and its like: ST(0) from ST(0)."""
    made = cell(_0)
    execute(env, operation, register(env, _0), made, made, made, made)
    keep(register(env, _0), made)


@callback(types.void(_WORD, _WORD))
def on_top_and_next(env, operation):
    """helper_fprem and its like: ST(0) from ST(0) and ST(1)."""
    made = cell(_0)
    execute(env, operation, register(env, _0), register(env, _1), made, made, made)
    keep(register(env, _0), made)


@callback(types.void(_WORD, _WORD))
def on_popped(env, operation):
    """helper_fyl2x and its like: ST(1) from both, which is the top then."""
    made = cell(_0)
    execute(env, operation, register(env, _0), register(env, _1), made, made, made)
    pop(env, made)


@callback(types.void(_WORD, _WORD))
def on_pushed(env, operation):
    """helper_fsincos and its like: ST(0) and one more from ST(0). Out of range there is none (C2)."""
    made, other = cell(_0), cell(_0)
    left = execute(env, operation, register(env, _0), made, made, other, made)
    if left & _C2 & (operation >> _16) == _0:
        keep(register(env, _0), other)
        push(env, made)


@callback(types.void(_WORD, _WORD))
def on_top_and_operand(env, operation):
    """helper_fadd_ST0_FT0 and its like."""
    made = cell(_0)
    execute(env, operation, register(env, _0), env + _FT0, made, made, made)
    keep(register(env, _0), made)


@callback(types.void(_WORD, _WORD, _WORD))
def on_other_and_top(env, number, operation):
    """helper_fadd_STN_ST0 and its like."""
    made, at = cell(_0), register(env, number & _7)
    execute(env, operation, at, register(env, _0), made, made, made)
    keep(at, made)


@callback(types.void(_WORD, _WORD))
def on_comparison(env, operation):
    """helper_fcom_ST0_FT0 and helper_fucom_ST0_FT0: C3, C2, C0."""
    made = cell(_0)
    execute(env, operation, register(env, _0), env + _FT0, made, made, made)


@callback(types.void(_WORD, _WORD))
def on_flags(env, operation):
    """helper_fcomi_ST0_FT0 and helper_fucomi_ST0_FT0: ZF, PF, CF from C3, C2, C0; OF, SF and AF are 0."""
    made = cell(_0)
    left = execute(env, operation, register(env, _0), env + _FT0, made, made, made)
    store64(env + _CC_SRC, (left >> _8) & _COMPARED)


@callback(types.void(_WORD, _WORD, _WORD))
def on_load(env, value, operation):
    """helper_flds_ST0 and helper_fldl_ST0."""
    made, word = cell(_0), cell(value)
    execute(env, operation, made, made, made, made, word)
    push(env, made)


@callback(types.void(_WORD, _WORD, _WORD))
def on_operand(env, value, operation):
    """helper_flds_FT0 and helper_fldl_FT0."""
    made, word = cell(_0), cell(value)
    execute(env, operation, made, made, made, made, word)
    keep(env + _FT0, made)


@callback(_WORD(_WORD, _WORD))
def on_store(env, operation):
    """helper_fsts_ST0 and its like: ST(0) as another number."""
    made = cell(_0)
    execute(env, operation, register(env, _0), made, made, made, made)
    return load64(made)
