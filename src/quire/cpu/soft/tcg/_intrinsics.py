"""How memory and functions are reached by address: what ``_kernels_raw.py`` names, in terms of the compiler."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from quire.cpu.soft._intrinsics import cast

__all__ = [
    "call3",
    "do1",
    "load8",
    "load16",
    "load32",
    "load64",
    "prefetch",
    "store8",
    "store16",
    "store32",
    "store64",
    "user_at",
]

_WORD = ir.IntType(64)


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


@intrinsic
def prefetch(typing, address):
    """Have the processor fetch what is at an address, and go on."""

    def generate(context, builder, signature, arguments):
        kind = ir.IntType(8).as_pointer()
        numbers = [ir.IntType(32)] * 3
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [kind], ir.FunctionType(ir.VoidType(), [kind, *numbers])
        )
        read, keep, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
        builder.call(function, [builder.inttoptr(arguments[0], kind), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), generate


user_at = cast(types.uint64, types.CPointer(types.voidptr))
