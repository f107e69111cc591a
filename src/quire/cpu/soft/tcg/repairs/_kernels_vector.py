"""What stands for helpers of vector instructions on floating-point numbers: the processor's, under the guest's MXCSR.

Exceptions set MXCSR's flags, and happen where the guest does not mask them.
"""

import numpy as np

from quire.arch import CR4, LOW32, Vector
from quire.cpu.soft.tcg._kernels_raw import load32, load64, store32, store64
from quire.cpu.soft.tcg.offsets import GUEST_MODE, Offset
from quire.cpu.soft.tcg.repairs.operations import DOT_PRODUCTS, VECTOR, vector_number
from quire.kernels import callback, compiled_by, kernel, types

U = np.uint64
_WORD = types.uint64

_raise = types.ExternalFunction("raise_exception_x86_64", types.void(_WORD, types.int32))
_BY = "quire.cpu.soft.tcg.repairs._intrinsics"
vector, cell = compiled_by(_BY, "vector"), compiled_by(_BY, "cell")
mxcsr, set_mxcsr = compiled_by(_BY, "mxcsr"), compiled_by(_BY, "set_mxcsr")
_CODE = repr(VECTOR)  # what the above is made from
_MXCSR, _CC_SRC = U(Offset.ENV_MXCSR), U(Offset.ENV_CC_SRC)
_EIP, _CC_OP = U(Offset.ENV_EIP), U(Offset.ENV_CC_OP)
_FLAGS, _BEFORE, _MASKS, _CONTROL = U(0x3F), U(7), U(0x1F80), U(0xFFC0)
_0, _1, _4, _7, _8, _15, _16 = (U(n) for n in (0, 1, 4, 7, 8, 15, 16))
_OPERATIONS, _XM, _UD = U(0xFFFF), np.int32(Vector.XM), np.int32(Vector.UD)
_HFLAGS, _GUEST_MODE = U(Offset.ENV_HFLAGS), np.uint32(GUEST_MODE)
_CR4, _OSXMMEXCPT = U(Offset.ENV_CR4), U(CR4.mask("OSXMMEXCPT"))
_DPPS, _DPPD = (U(vector_number(name)) for name in DOT_PRODUCTS)
_LOW32, _HIGH32 = U(LOW32), U(LOW32 << 32)


@kernel(types.boolean(_WORD, _WORD, _WORD))
def happens(env, held, flags):
    """Note new exceptions in MXCSR, which was `held`, and return whether one is not masked.

    Those that show before the operation is made (IE, DE, ZE) keep the others from showing then (SDM 1 §11.5.3.2).
    """
    unmasked = ~(held >> _7) & _FLAGS
    if flags & unmasked & _BEFORE:
        flags &= _BEFORE
    store32(env + _MXCSR, np.uint32(held | flags))
    return flags & unmasked != _0


@kernel(types.void(_WORD, _WORD, _WORD))
def raise_exception(env, operation, place):
    """Raise #XM at `place`, or #UD without CR4.OSXMMEXCPT, with the flags that `operation` says there are."""
    store64(env + _EIP, place)
    cc_op = operation >> _16 & _OPERATIONS
    if cc_op:
        store32(env + _CC_OP, np.uint32(cc_op))
    guest = load32(env + _HFLAGS) & _GUEST_MODE  # the engine of a program is not, and has no CR4 of it
    _raise(env, _UD if guest and load64(env + _CR4) & _OSXMMEXCPT == _0 else _XM)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def execute(env, destination, source, operation, place):
    """Execute an operation; an exception that is not masked happens at `place`, and nothing else has changed."""
    held, host = U(load32(env + _MXCSR)), mxcsr()
    low, high = load64(destination), load64(destination + _8)
    wanted = (held & _CONTROL) | _MASKS
    # To load MXCSR is slow: it stays where it is that of the guest, and says only what the guest has met and masks.
    met = held & held >> _7 & _FLAGS
    as_host = host & ~_FLAGS == wanted and host & _FLAGS & ~met == _0
    if not as_host:
        set_mxcsr(wanted)
    vector(operation & _OPERATIONS, (destination, source))
    flags = mxcsr() & _FLAGS
    if not as_host:
        set_mxcsr(host)
    if flags & ~met and happens(env, held, flags):
        store64(destination, low)
        store64(destination + _8, high)
        raise_exception(env, operation, place)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_two(env, destination, source, operation, place):
    """helper_addps and its like."""
    execute(env, destination, source, operation, place)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_number(env, destination, value, operation, place):
    """helper_cvtsi2ss and its like."""
    execute(env, destination, cell(value), operation, place)


@callback(_WORD(_WORD, _WORD, _WORD, _WORD))
def on_to_number(env, source, operation, place):
    """helper_cvtss2si and its like."""
    made = cell(_0)
    execute(env, made, source, operation, place)
    return load64(made)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_comparison(env, destination, source, operation, place):
    """helper_ucomiss and its like: ZF, PF, CF."""
    made = cell(load64(destination))
    execute(env, made, source, operation, place)
    store64(env + _CC_SRC, load64(made))


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD))
def on_rounding(env, destination, source, how, operation, place):
    """helper_roundps and its like: `operation` is that of the immediate 0."""
    execute(env, destination, source, operation + (how & _15), place)


@kernel(_WORD(_WORD, _WORD), inline="always")
def chosen(bits, number):
    """Return a mask of two lanes of 32 bits: of each that is set in `bits` from bit `number` on."""
    low = _LOW32 if (bits >> number) & _1 else _0
    return low | (_HIGH32 if (bits >> (number + _1)) & _1 else _0)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD))
def on_dot_product(env, destination, source, how, operation, place):
    """helper_dpps and helper_dppd: bits 7:4 of the immediate choose factors, bits 3:0 where the sum goes."""
    low, high, to_low, to_high = chosen(how, _4), chosen(how, U(6)), chosen(how, _0), chosen(how, U(2))
    if operation & _OPERATIONS == _DPPD:
        low, high = _0 - ((how >> _4) & _1), _0 - ((how >> U(5)) & _1)
        to_low, to_high = _0 - (how & _1), _0 - ((how >> _1) & _1)
    first, second = cell(load64(destination) & low), cell(load64(source) & low)
    store64(first + _8, load64(destination + _8) & high)
    store64(second + _8, load64(source + _8) & high)
    execute(env, first, second, operation, place)
    store64(destination, load64(first) & to_low)
    store64(destination + _8, load64(first + _8) & to_high)
