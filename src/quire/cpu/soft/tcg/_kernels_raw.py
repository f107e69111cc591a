"""Memory and functions by address: what stands between the library's functions has nothing else."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from quire.cpu.soft._kernels_casts import USER
from quire.cpu.soft.stop_request import HALTED, NOW
from quire.cpu.soft.tcg.cells import CONTEXTS, REGISTRY, Cell
from quire.kernels import kernel

U = np.uint64
_WORD = ir.IntType(64)
_0, _1, _8, _4 = (U(n) for n in (0, 1, 8, 4))
_RETURNS, _LEAVE, _LOOKED_AT = U(8 * Cell.RETURNS), U(8 * Cell.LEAVE), U(8 * Cell.LOOKED_AT)
_HALTED, _ONE, _NOW = np.uint32(HALTED), np.uint8(1), np.uint16(NOW)
_REGISTRY, _LAST = U(REGISTRY), U(CONTEXTS - 1)


def _access(bits):
    """Return a load and a store of `bits` bits at an address."""
    kind = getattr(types, f"uint{bits}")

    @intrinsic
    def load(typing, address):
        def generate(context, builder, signature, arguments):
            return builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)

        return kind(types.uint64), generate

    @intrinsic
    def store(typing, address, value):
        def generate(context, builder, signature, arguments):
            builder.store(
                arguments[1], builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1
            )
            return context.get_dummy_value()

        return types.void(types.uint64, kind), generate

    return load, store


load64, store64 = _access(64)
load32, store32 = _access(32)
load16, store16 = _access(16)
load8, store8 = _access(8)


def _call(number, returns):
    """Return a call of the function at an address with `number` words."""

    @intrinsic
    def call(typing, function, words):
        def generate(context, builder, signature, arguments):
            kind = ir.FunctionType(_WORD if returns else ir.VoidType(), [_WORD] * number)
            target = builder.inttoptr(arguments[0], kind.as_pointer())
            found = builder.call(target, [builder.extract_value(arguments[1], n) for n in range(number)])
            return found if returns else context.get_dummy_value()

        kind = types.uint64 if returns else types.void
        return kind(types.uint64, types.UniTuple(types.uint64, number)), generate

    return call


call3 = _call(3, True)
do1 = _call(1, False)


def _cast(pointer_type):
    @intrinsic
    def cast(typing, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(pointer_type))

        return pointer_type(types.uint64), generate

    return cast


user_at = _cast(USER)
words_at = _cast(types.CPointer(types.uint64))


@kernel(types.uint64(types.uint64), inline="always")
def context_of(env):
    """Return the context of the engine with the CPU state `env`, 0 if it has none."""
    slot = (env >> _4) & _LAST
    found = _0
    for _ in range(CONTEXTS):
        key = load64(_REGISTRY + (slot << _4))
        if key == env:
            found = load64(_REGISTRY + (slot << _4) + _8)
            break
        if key == _0:
            break
        slot = (slot + _1) & _LAST
    return found


@kernel(types.void(types.uint64))
def ask_to_stop(context):
    """Have the engine end at its next block."""
    store32(load64(context + _RETURNS), _HALTED)
    store8(load64(context + _LEAVE), _ONE)
    store16(load64(context + _LOOKED_AT), _NOW)
