"""How the plain functions that ``_kernels_buddy.py`` calls are compiled: pointers into arrays, and the lowest bit."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from quire.memory._kernels_buddy import PARTS, counts_of, lowest_bit, pointer

__all__: list[str] = []

_FIRST = np.int64(0)


@intrinsic
def _data(typing, array):
    def generate(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@overload(pointer)
def _pointer(array):
    return (lambda array: _data(array)) if isinstance(array, types.Array) else None


@intrinsic
def _cast(typing, records, start, like):
    """Return a pointer to elements like `like` from word `start` of `records` on."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.bitcast(
            builder.gep(array.data, [arguments[1]]), context.get_value_type(signature.return_type)
        )

    return types.CPointer(like)(records, types.int64, like), generate


def _compile_part(of, like, place):
    @overload(of)
    def _of(records, counts):
        return lambda records, counts: _cast(records, counts[place], like(0))


for _part in PARTS:
    _compile_part(*_part)


@overload(counts_of)
def _counts_of(records):
    return lambda records: _cast(records, _FIRST, _FIRST)


@intrinsic
def _count_zeros(typing, word):
    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@overload(lowest_bit, inline="always")
def _lowest_bit(word):
    return lambda word: _count_zeros(word)
