"""What a compilation of the hooks needs: the engine's library, whose functions they call, and casts of pointers."""

from llvmlite import binding
from numba import types
from numba.extending import intrinsic

from quire.cpu.soft.engine import LIBRARY_PATH

__all__ = ["octets", "shape_words", "words"]

binding.load_library_permanently(LIBRARY_PATH)


def _cast(pointer_type):
    """Return a function of kernels that takes a void pointer for a `pointer_type`."""

    @intrinsic
    def cast(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(pointer_type))

        return pointer_type(types.voidptr), generate

    return cast


words = _cast(types.CPointer(types.uint64))
shape_words = _cast(types.CPointer(types.int64))
octets = _cast(types.CPointer(types.uint8))
