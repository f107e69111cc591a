"""The processor's own instructions, in terms of the compiler: a branch for each operation, its code as assembly.

Whoever executes an operation gives the processor the guest's control word before, and the host's behind it.
"""

from llvmlite import binding, ir
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

from quire.cpu.soft.tcg.repairs.operations import VECTOR, X87

__all__ = ["cell", "clear_status", "control", "mxcsr", "set_control", "set_mxcsr", "status", "vector", "x87"]

binding.initialize_native_asmparser()
_WORD, _HALF = ir.IntType(64), ir.IntType(32)
_VECTOR_PLACES = {"d": "($0)", "s": "($1)"}
_VECTOR_CHANGES = "~{xmm0},~{xmm1},~{rax},~{memory},~{dirflag},~{fpsr},~{flags}"
_X87_PLACES = {"a": "($0)", "b": "($1)", "r": "($2)", "q": "($3)", "w": "($4)"}
_X87_CHANGES = ",".join((*(f"~{{st({n})}}" for n in range(1, 8)), "~{st}", "~{rax}", "~{memory}", "~{dirflag}",
                         "~{fpsr}", "~{flags}"))  # fmt: skip


def _branch(builder, operation, codes, arguments, changes):
    """Generate a switch over the numbers of `codes`, each of which gets `arguments`, addresses, in registers."""
    kind = ir.FunctionType(ir.VoidType(), [one.type for one in arguments])
    constraints = ",".join(["r"] * len(arguments)) + "," + changes
    end = builder.append_basic_block("done")
    choice = builder.switch(operation, end)
    for number, code in enumerate(codes):
        block = builder.append_basic_block(f"operation{number}")
        choice.add_case(_WORD(number), block)
        with builder.goto_block(block):
            builder.call(ir.InlineAsm(kind, code, constraints, side_effect=True), arguments)
            builder.branch(end)
    builder.position_at_end(end)


def _operation(codes, places, changes):
    """Return a function of kernels that executes the operation of a number; the places in its code are addresses."""
    texts = [one.format(**places) for one in codes]

    @intrinsic
    def execute(typing, operation, addresses):
        def generate(context, builder, signature, arguments):
            given = [builder.extract_value(arguments[1], n) for n in range(len(places))]
            _branch(builder, arguments[0], texts, given, changes)
            return context.get_dummy_value()

        return types.void(types.uint64, types.UniTuple(types.uint64, len(places))), generate

    return execute


vector = _operation(VECTOR.values(), _VECTOR_PLACES, _VECTOR_CHANGES)
x87 = _operation([one.code for one in X87.values()], _X87_PLACES, _X87_CHANGES)


def _register(size, reading, writing="fldcw"):
    """Return functions of kernels that read and write a register by instructions with an operand in memory."""
    kind = ir.IntType(size)

    def call(builder, code, made):
        asm = ir.InlineAsm(ir.FunctionType(ir.VoidType(), [made.type]), f"{code} ($0)", "r,~{memory}", True)
        builder.call(asm, [made])

    @intrinsic
    def read(typing):
        def generate(context, builder, signature, arguments):
            made = alloca_once(builder, kind)
            call(builder, reading, made)
            return builder.zext(builder.load(made), _WORD)

        return types.uint64(), generate

    @intrinsic
    def write(typing, value):
        def generate(context, builder, signature, arguments):
            made = alloca_once(builder, kind)
            builder.store(builder.trunc(arguments[0], kind), made)
            call(builder, writing, made)
            return context.get_dummy_value()

        return types.void(types.uint64), generate

    return read, write


mxcsr, set_mxcsr = _register(32, "stmxcsr", "ldmxcsr")
control, set_control = _register(16, "fnstcw")
status = _register(16, "fnstsw")[0]


@intrinsic
def clear_status(typing):
    """Clear the exceptions of x87's status word."""

    def generate(context, builder, signature, arguments):
        asm = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "fnclex", "~{memory},~{fpsr}", True)
        builder.call(asm, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def cell(typing, value):
    """Return the address of 16 bytes of the caller's, the first eight of which hold `value`."""

    def generate(context, builder, signature, arguments):
        made = alloca_once(builder, _WORD, size=ir.Constant(_HALF, 2))
        builder.store(arguments[0], made)
        return builder.ptrtoint(made, _WORD)

    return types.uint64(types.uint64), generate
