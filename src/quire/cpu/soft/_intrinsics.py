"""What a compilation of the hooks needs: the engine's library, whose functions they call, and casts of pointers."""

from llvmlite import binding
from numba import types
from numba.extending import intrinsic

from quire.cpu.soft.engine import LIBRARY_PATH

__all__ = ["cast", "octets", "shape_words", "words"]

binding.load_library_permanently(LIBRARY_PATH)


def cast(given, pointer_type):
    """Return a function of kernels that takes what is `given`, a void pointer or a word, for a `pointer_type`."""

    @intrinsic
    def take(typing_context, address):
        def generate(context, builder, signature, arguments):
            instruction = builder.inttoptr if given is types.uint64 else builder.bitcast
            return instruction(arguments[0], context.get_value_type(pointer_type))

        return pointer_type(given), generate

    return take


words = cast(types.voidptr, types.CPointer(types.uint64))
shape_words = cast(types.voidptr, types.CPointer(types.int64))
octets = cast(types.voidptr, types.CPointer(types.uint8))
