"""How the plain function that ``_kernels_replacement.py`` calls is compiled: four words are compared at once."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from quire.tlb._kernels_replacement import lanes

__all__: list[str] = []


@intrinsic
def _compare(typing, words, at, word):
    def generate(context, builder, signature, arguments):
        place, four = builder.gep(arguments[0], [arguments[1]]), ir.VectorType(ir.IntType(64), 4)
        none, first = ir.Constant(four, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(none, arguments[2], first)
        all_of = builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4))
        there = builder.load(builder.bitcast(place, four.as_pointer()), align=8)
        same = builder.bitcast(builder.icmp_unsigned("==", there, all_of), ir.IntType(4))
        return builder.zext(same, ir.IntType(64))

    return types.uint64(words, types.int64, types.uint64), generate


@overload(lanes, inline="always")
def _lanes(words, at, word):
    return lambda words, at, word: _compare(words, np.int64(at), word)
