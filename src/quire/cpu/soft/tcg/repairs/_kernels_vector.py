"""What stands for helpers of vector instructions on floating-point numbers: the processor's own, under the guest's MXCSR.

Exceptions set MXCSR's flags. One that the guest does not mask happens no more than in the library.
"""

import numpy as np

from quire.arch import LOW32
from quire.cpu.soft.tcg._kernels_raw import load32, load64, store32, store64
from quire.cpu.soft.tcg.offsets import Offset
from quire.cpu.soft.tcg.repairs.operations import DOT_PRODUCTS, VECTOR, vector_number
from quire.kernels import callback, compiled_by, kernel, types

U = np.uint64
_WORD = types.uint64

vector = compiled_by("quire.cpu.soft.tcg.repairs._intrinsics", "vector")
cell = compiled_by("quire.cpu.soft.tcg.repairs._intrinsics", "cell")
_CODE = repr(VECTOR)  # what the above is made from
_MXCSR, _CC_SRC = U(Offset.ENV_MXCSR), U(Offset.ENV_CC_SRC)
_FLAGS, _MASKS, _CONTROL = U(0x3F), U(0x1F80), U(0xFFC0)
_0, _1, _4, _8, _15, _16, _32 = (U(n) for n in (0, 1, 4, 8, 15, 16, 32))
_DPPS, _DPPD = (U(vector_number(name)) for name in DOT_PRODUCTS)
_LOW32, _HIGH32 = U(LOW32), U(LOW32 << 32)


@kernel(types.void(_WORD, _WORD, _WORD, _WORD))
def execute(env, operation, destination, source):
    """Execute an operation and note its exceptions."""
    held = U(load32(env + _MXCSR))
    after = vector(operation, destination, source, (held & _CONTROL) | _MASKS)
    store32(env + _MXCSR, np.uint32(held | (after & _FLAGS)))


@callback(types.void(_WORD, _WORD, _WORD, _WORD))
def on_two(env, destination, source, operation):
    """helper_addps and its like."""
    execute(env, operation & _LOW32, destination, source)


@callback(types.void(_WORD, _WORD, _WORD, _WORD))
def on_number(env, destination, value, operation):
    """helper_cvtsi2ss and its like."""
    execute(env, operation & _LOW32, destination, cell(value))


@callback(_WORD(_WORD, _WORD, _WORD))
def on_to_number(env, source, operation):
    """helper_cvtss2si and its like."""
    made = cell(_0)
    execute(env, operation & _LOW32, made, source)
    return load64(made)


@callback(types.void(_WORD, _WORD, _WORD, _WORD))
def on_comparison(env, destination, source, operation):
    """helper_ucomiss and its like: ZF, PF, CF."""
    made = cell(load64(destination))
    execute(env, operation & _LOW32, made, source)
    store64(env + _CC_SRC, load64(made))


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_rounding(env, destination, source, how, operation):
    """helper_roundps and its like: `operation` is that of the immediate 0."""
    execute(env, (operation & _LOW32) + (how & _15), destination, source)


@kernel(_WORD(_WORD, _WORD), inline="always")
def chosen(bits, number):
    """Return a mask of two lanes of 32 bits: of each that is set in `bits` from bit `number` on."""
    low = _LOW32 if (bits >> number) & _1 else _0
    return low | (_HIGH32 if (bits >> (number + _1)) & _1 else _0)


@callback(types.void(_WORD, _WORD, _WORD, _WORD, _WORD))
def on_dot_product(env, destination, source, how, operation):
    """helper_dpps and helper_dppd: bits 7:4 of the immediate choose factors, bits 3:0 where the sum goes."""
    operation &= _LOW32
    low, high, to_low, to_high = chosen(how, _4), chosen(how, U(6)), chosen(how, _0), chosen(how, U(2))
    if operation == _DPPD:
        low, high = _0 - ((how >> _4) & _1), _0 - ((how >> U(5)) & _1)
        to_low, to_high = _0 - (how & _1), _0 - ((how >> _1) & _1)
    first, second = cell(load64(destination) & low), cell(load64(source) & low)
    store64(first + _8, load64(destination + _8) & high)
    store64(second + _8, load64(source + _8) & high)
    execute(env, operation, first, second)
    store64(destination, load64(first) & to_low)
    store64(destination + _8, load64(first + _8) & to_high)
