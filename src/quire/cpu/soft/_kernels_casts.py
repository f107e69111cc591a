"""What hooks are given, and what they do with it: a void pointer becomes a pointer to what it points to."""

from numba import types
from numba.extending import intrinsic

#: The engine, as a hook is given it, and the pointer array, see :class:`quire.cpu.soft.state.Pointer`.
HANDLE = types.CPointer(types.uint8)
USER = types.CPointer(types.voidptr)

#: The library's call that ends a run, with the engine.
emu_stop = types.ExternalFunction("uc_emu_stop", types.int32(types.voidptr))


def _cast(pointer_type):
    """Return a function of kernels that takes a void pointer for a `pointer_type`."""

    @intrinsic
    def cast(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(pointer_type))

        return pointer_type(types.voidptr), generate

    return cast


#: Words of the host, signed words of shapes, bytes of the engine.
words = _cast(types.CPointer(types.uint64))
shape_words = _cast(types.CPointer(types.int64))
octets = _cast(types.CPointer(types.uint8))
