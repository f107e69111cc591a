"""The outermost function of stored code: what Python's call protocol, or a C caller, meets before the compiled loop.

Numba's own wrappers need Numba when they run. These need Python's C API, and the layout of an array (``layout.py``).
Callbacks have nobody to raise an error to: they trap.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.np import arrayobj

from quire.kernels.layout import (
    ARRAY_TYPE,
    BYTE_ORDER,
    DATA,
    DESCRIPTION,
    DIMENSIONS,
    FLAGS,
    OBJECT_TYPE,
    SHAPE,
    TYPE_NUMBER,
)

__all__ = ["wrap_callback", "wrap_kernel"]

_WANTED_FLAGS = 0x1 | 0x100 | 0x400  # C contiguous, aligned, writeable
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_OBJECT = _I8.as_pointer()


class _Wrapper:
    """The body of one wrapper: a block for each step, and exits that raise."""

    def __init__(self, context: Any, library: Any, fndesc: Any, name: str, function_type: Any) -> None:
        self.context, self.library, self.fndesc = context, library, fndesc
        self.module = context.create_module("wrapper")
        callee_type = context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
        self.callee = ir.Function(self.module, callee_type, fndesc.llvm_func_name)
        self.function = ir.Function(self.module, function_type, name)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self._texts = 0

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call a function of Python's."""
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(result, [one.type for one in arguments]), name)
        return self.builder.call(known, arguments)

    def address_of(self, name: str) -> Any:
        """Return the address of an object of Python's or NumPy's."""
        known = self.module.globals.get(name)
        if known is None:
            known = ir.GlobalVariable(self.module, _I8, name)
        return known

    def field(self, thing: Any, offset: int, kind: Any) -> Any:
        """Return the field of `thing` at `offset`."""
        place = self.builder.gep(thing, [ir.Constant(_I64, offset)])
        return self.builder.load(self.builder.bitcast(place, kind.as_pointer()))

    def unless(self, condition: Any, otherwise: Callable[[], None]) -> None:
        """Go on if `condition` holds; if not, do `otherwise`, which returns."""
        good, bad = self.function.append_basic_block(), self.function.append_basic_block()
        self.builder.cbranch(condition, good, bad)
        self.builder.position_at_end(bad)
        otherwise()
        self.builder.position_at_end(good)

    def fail(self) -> None:
        """Return the error that is set."""
        self.builder.ret(ir.Constant(_OBJECT, None))

    def refuse(self, exception: str, text: str) -> None:
        """Return an error with `text`."""
        content = ir.Constant(ir.ArrayType(_I8, len(text) + 1), bytearray(text.encode() + b"\0"))
        kept = ir.GlobalVariable(self.module, content.type, f"text{self._texts}")
        self._texts += 1
        kept.linkage, kept.global_constant, kept.initializer = "private", True, content
        kind = self.builder.load(self.builder.bitcast(self.address_of(exception), _OBJECT.as_pointer()))
        self.call("PyErr_SetString", ir.VoidType(), kind, self.builder.bitcast(kept, _OBJECT))
        self.fail()

    def number(self, given: Any, kind: Any) -> Any:
        """Return the integer or truth value that `given` is."""
        builder = self.builder
        if kind == types.boolean:
            truth = self.call("PyObject_IsTrue", _I32, given)
            self.unless(builder.icmp_signed(">=", truth, ir.Constant(_I32, 0)), self.fail)
            return self.context.cast(builder, truth, types.int32, types.boolean)
        index = self.call("PyNumber_Index", _OBJECT, given)
        self.unless(builder.icmp_unsigned("!=", index, ir.Constant(_OBJECT, None)), self.fail)
        name = "PyLong_AsLongLong" if kind.signed else "PyLong_AsUnsignedLongLong"
        value = self.call(name, _I64, index)
        self.call("Py_DecRef", ir.VoidType(), index)
        maybe, good = self.function.append_basic_block(), self.function.append_basic_block()
        builder.cbranch(builder.icmp_unsigned("!=", value, ir.Constant(_I64, -1)), good, maybe)
        builder.position_at_end(maybe)
        error = self.call("PyErr_Occurred", _OBJECT)
        bad = self.function.append_basic_block()
        builder.cbranch(builder.icmp_unsigned("==", error, ir.Constant(_OBJECT, None)), good, bad)
        builder.position_at_end(bad)
        self.fail()
        builder.position_at_end(good)
        return value

    def array(self, given: Any, kind: Any, place: str) -> Any:
        """Return the array that `given` is, as Numba has arrays; nothing counts a reference to it."""
        builder = self.builder
        wanted = f"{self.fndesc.qualname}: {place} is no writeable array of {kind.dtype} without gaps"
        wrong: Callable[[], None] = lambda: self.refuse("PyExc_TypeError", wanted)  # noqa: E731
        kind_of_given, arrays = self.field(given, OBJECT_TYPE, _OBJECT), self.address_of(ARRAY_TYPE)
        derived, known = (self.function.append_basic_block() for _ in range(2))
        builder.cbranch(builder.icmp_unsigned("==", kind_of_given, arrays), known, derived)
        builder.position_at_end(derived)
        found = self.call("PyType_IsSubtype", _I32, kind_of_given, arrays)
        self.unless(builder.icmp_unsigned("!=", found, ir.Constant(_I32, 0)), wrong)
        builder.branch(known)
        builder.position_at_end(known)
        description = self.field(given, DESCRIPTION, _OBJECT)
        flags = self.field(given, FLAGS, _I32)
        as_wanted = (
            (self.field(given, DIMENSIONS, _I32), 1),
            (builder.and_(flags, ir.Constant(_I32, _WANTED_FLAGS)), _WANTED_FLAGS),
            (self.field(description, TYPE_NUMBER, _I32), _type_number(kind.dtype)),
        )
        fits = builder.icmp_unsigned(
            "!=", self.field(description, BYTE_ORDER, _I8), ir.Constant(_I8, ord(">"))
        )
        for value, one in as_wanted:
            fits = builder.and_(fits, builder.icmp_signed("==", value, ir.Constant(_I32, one)))
        self.unless(fits, wrong)
        item = self.context.get_abi_sizeof(self.context.get_data_type(kind.dtype))
        made = self.context.make_array(kind)(self.context, builder)
        shape = self.field(self.field(given, SHAPE, _OBJECT), 0, _I64)
        data = self.field(given, DATA, _OBJECT)
        arrayobj.populate_array(
            made,
            data=builder.bitcast(data, self.context.get_data_type(kind.dtype).as_pointer()),
            shape=[shape],
            strides=[ir.Constant(_I64, item)],
            itemsize=ir.Constant(_I64, item),
            meminfo=None,
        )
        return made._getvalue()

    def argument(self, given: Any, kind: Any, place: str) -> Any:
        """Return what `given` is to the compiled loop."""
        if isinstance(kind, types.Array):
            return self.array(given, kind, place)
        if isinstance(kind, types.NamedTuple):
            parts = []
            for number, (name, part) in enumerate(zip(kind.fields, kind.types, strict=True)):
                one = self.call("PyTuple_GetItem", _OBJECT, given, ir.Constant(_I64, number))
                self.unless(self.builder.icmp_unsigned("!=", one, ir.Constant(_OBJECT, None)), self.fail)
                parts.append(self.array(one, part, f"{name} of {place}"))
            return self.context.make_tuple(self.builder, kind, parts)
        return self.number(given, kind)

    def result(self, value: Any, kind: Any) -> Any:
        """Return the Python object for what the compiled loop returned."""
        if kind == types.none:
            nothing = self.address_of("_Py_NoneStruct")
            self.call("Py_IncRef", ir.VoidType(), nothing)
            return nothing
        if kind == types.boolean:
            return self.call("PyBool_FromLong", _OBJECT, self.builder.zext(value, _I64))
        name = "PyLong_FromLongLong" if kind.signed else "PyLong_FromUnsignedLongLong"
        return self.call(name, _OBJECT, value)

    def finish(self) -> None:
        """Hand the module to the library that is compiled."""
        self.library.add_ir_module(self.module)


def _type_number(kind: Any) -> int:
    import numpy as np

    return int(np.dtype(str(kind)).num)


_NUMBERS = (types.int64, types.uint64, types.boolean)


def _from_python(one: Any) -> bool:
    parts = one.types if isinstance(one, types.NamedTuple) else (one,)
    return all(isinstance(part, types.Array) for part in parts) or one in _NUMBERS


def wrap_kernel(context: Any, library: Any, fndesc: Any) -> None:
    """Add what Python calls, if Python can: a function of METH_FASTCALL, by the name of Numba's own wrapper."""
    if fndesc.restype not in (*_NUMBERS, types.none) or not all(map(_from_python, fndesc.argtypes)):
        return
    if all(one in _NUMBERS for one in fndesc.argtypes):  # one that other kernels call
        return
    count = len(fndesc.argtypes)
    kind = ir.FunctionType(_OBJECT, [_OBJECT, _OBJECT.as_pointer(), _I64])
    made = _Wrapper(context, library, fndesc, fndesc.llvm_cpython_wrapper_name, kind)
    builder, (_, given, number) = made.builder, made.function.args
    made.unless(
        builder.icmp_unsigned("==", number, ir.Constant(_I64, count)),
        lambda: made.refuse("PyExc_TypeError", f"{fndesc.qualname} takes {count} arguments"),
    )
    inner = []
    for place, argument in enumerate(fndesc.argtypes):
        one = builder.load(builder.gep(given, [ir.Constant(_I64, place)]))
        inner.append(made.argument(one, argument, f"argument {place + 1}"))
    thread = made.call("PyEval_SaveThread", _OBJECT)
    status, value = context.call_conv.call_function(
        builder, made.callee, fndesc.restype, fndesc.argtypes, inner, attrs=("noinline",)
    )
    made.call("PyEval_RestoreThread", ir.VoidType(), thread)
    made.unless(
        builder.not_(status.is_error),
        lambda: made.refuse("PyExc_ZeroDivisionError", f"{fndesc.qualname} divided by zero"),
    )
    builder.ret(made.result(value, fndesc.restype))
    made.finish()


def wrap_callback(context: Any, library: Any, fndesc: Any) -> None:
    """Add what C calls, with the C types of the signature."""
    arguments = [context.get_value_type(one) for one in fndesc.argtypes]
    kind = ir.FunctionType(context.get_value_type(fndesc.restype), arguments)
    made = _Wrapper(context, library, fndesc, fndesc.llvm_cfunc_wrapper_name, kind)
    builder = made.builder
    status, value = context.call_conv.call_function(
        builder, made.callee, fndesc.restype, fndesc.argtypes, made.function.args, attrs=("noinline",)
    )
    bad, good = made.function.append_basic_block(), made.function.append_basic_block()
    builder.cbranch(status.is_error, bad, good)
    builder.position_at_end(bad)
    trap = ir.Function(made.module, ir.FunctionType(ir.VoidType(), []), "llvm.trap")
    builder.call(trap, [])
    builder.unreachable()
    builder.position_at_end(good)
    builder.ret(value)
    made.finish()
