"""The processor's own instructions, in terms of the compiler: a branch for each operation, its code as assembly.

The control words of the host stay as they were: an operation has those of the guest, with every exception masked, and
returns which exceptions there were.
"""

from llvmlite import binding, ir
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

from quire.cpu.soft.tcg.repairs.operations import VECTOR, X87

__all__ = ["cell", "vector", "x87"]

binding.initialize_native_asmparser()
_WORD, _HALF, _CONTROL = ir.IntType(64), ir.IntType(32), ir.IntType(16)
_VECTOR_CODE = "stmxcsr ($3); ldmxcsr ($2); {}; stmxcsr ($2); ldmxcsr ($3)"
_VECTOR_PLACES = {"d": "($0)", "s": "($1)"}
_VECTOR_CHANGES = "~{xmm0},~{xmm1},~{rax},~{memory},~{dirflag},~{fpsr},~{flags}"
_X87_CODE = "fnstcw ($6); fldcw ($5); fnclex; {}; fldcw ($6); movw %ax, ($5)"
_X87_PLACES = {"a": "($0)", "b": "($1)", "r": "($2)", "q": "($3)", "w": "($4)"}
_X87_CHANGES = ",".join(("~{rax}", *(f"~{{st({n})}}" for n in range(1, 8)), "~{st}", "~{memory}", "~{dirflag}",
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


@intrinsic
def vector(typing, operation, destination, source, control):
    """Execute a vector operation under MXCSR `control`, and return what MXCSR is then."""

    def generate(context, builder, signature, arguments):
        number, *places, control = arguments
        guest, host = alloca_once(builder, _HALF), alloca_once(builder, _HALF)
        builder.store(builder.trunc(control, _HALF), guest)
        codes = [_VECTOR_CODE.format(code.format(**_VECTOR_PLACES)) for code in VECTOR.values()]
        _branch(builder, number, codes, [*places, guest, host], _VECTOR_CHANGES)
        return builder.zext(builder.load(guest), _WORD)

    word = types.uint64
    return word(word, word, word, word), generate


@intrinsic
def x87(typing, operation, first, second, result, other, word, control):
    """Execute an x87 operation under `control`, and return the status word; arguments but the last are addresses."""

    def generate(context, builder, signature, arguments):
        number, *places, control = arguments
        guest, host = alloca_once(builder, _CONTROL), alloca_once(builder, _CONTROL)
        builder.store(builder.trunc(control, _CONTROL), guest)
        codes = [_X87_CODE.format(one.code.format(**_X87_PLACES)) for one in X87.values()]
        _branch(builder, number, codes, [*places, guest, host], _X87_CHANGES)
        return builder.zext(builder.load(guest), _WORD)

    given = (types.uint64,) * 7
    return types.uint64(*given), generate


@intrinsic
def cell(typing, value):
    """Return the address of 16 bytes of the caller's, the first eight of which hold `value`."""

    def generate(context, builder, signature, arguments):
        made = alloca_once(builder, _WORD, size=ir.Constant(_HALF, 2))
        builder.store(arguments[0], made)
        return builder.ptrtoint(made, _WORD)

    return types.uint64(types.uint64), generate
