"""What hooks are given, and what they do with it: a void pointer becomes a pointer to what it points to."""

from quire.kernels import compiled_by, types

#: The engine, as a hook is given it, and the pointer array, see :class:`quire.cpu.soft.state.Pointer`.
HANDLE = types.CPointer(types.uint8)
USER = types.CPointer(types.voidptr)

#: The library's call that ends a run, with the engine.
emu_stop = types.ExternalFunction("uc_emu_stop", types.int32(types.voidptr))

#: Words of the host, signed words of shapes, bytes of the engine.
words = compiled_by("quire.cpu.soft._intrinsics", "words")
shape_words = compiled_by("quire.cpu.soft._intrinsics", "shape_words")
octets = compiled_by("quire.cpu.soft._intrinsics", "octets")
