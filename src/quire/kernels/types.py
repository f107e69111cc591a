"""The types of kernels' signatures: named here, so that a declaration needs no compiler.

Spelled as Numba spells its own: ``types.int64(types.uint64[::1], types.boolean)``. Each knows its Numba type, which is
looked up when a kernel is compiled.
"""

from collections.abc import Callable
from typing import Any

__all__ = [
    "Array",
    "CPointer",
    "ExternalFunction",
    "NamedTuple",
    "Scalar",
    "Signature",
    "Type",
    "boolean",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "void",
    "voidptr",
]


class Type:
    """A type; called with those of its arguments, the signature of a function that returns it."""

    def __init__(self, name: str, numba: Callable[[Any], Any]) -> None:
        self._name, self._numba = name, numba

    def __call__(self, *arguments: "Type") -> "Signature":
        return Signature(self, arguments)

    def __repr__(self) -> str:
        return self._name

    def numba(self) -> Any:
        """Return Numba's type."""
        import numba.types

        return self._numba(numba.types)


class Scalar(Type):
    """A number; with ``[::1]``, an array of one dimension without gaps."""

    def __init__(self, name: str) -> None:
        super().__init__(name, lambda types: getattr(types, name))

    def __getitem__(self, index: slice) -> "Array":
        if (index.start, index.stop, index.step) != (None, None, 1):
            raise TypeError(f"{self}[{index}] is no type: write {self}[::1]")
        return Array(self)


class Array(Type):
    """An array of numbers of type `item`, of one dimension and without gaps."""

    def __init__(self, item: Scalar) -> None:
        super().__init__(f"{item}[::1]", lambda types: item.numba()[::1])
        self.item = item


class CPointer(Type):
    """The address of something of type `target`."""

    def __init__(self, target: Type) -> None:
        super().__init__(f"CPointer({target})", lambda types: types.CPointer(target.numba()))


class NamedTuple(Type):
    """The record class `record`, whose fields are of the types `parts`."""

    def __init__(self, parts: tuple[Type, ...], record: type[tuple[Any, ...]]) -> None:
        super().__init__(
            f"NamedTuple({parts}, {record.__name__})",
            lambda types: types.NamedTuple([part.numba() for part in parts], record),
        )
        self.parts, self.record = parts, record


class Signature:
    """What a kernel returns, and the types of its arguments."""

    def __init__(self, result: Type, arguments: tuple[Type, ...]) -> None:
        self.result, self.arguments = result, arguments

    def __repr__(self) -> str:
        return f"{self.result}{self.arguments}"

    def numba(self) -> Any:
        """Return Numba's signature."""
        return self.result.numba()(*(one.numba() for one in self.arguments))


class ExternalFunction:
    """A function of a library that is loaded, by its name there; kernels call it."""

    def __init__(self, symbol: str, signature: Signature) -> None:
        self.symbol, self._signature = symbol, signature

    def __repr__(self) -> str:
        return f"ExternalFunction({self.symbol}, {self._signature})"

    @property
    def _numba_type_(self) -> Any:
        import numba.types

        return numba.types.ExternalFunction(self.symbol, self._signature.numba())


void, boolean = Scalar("void"), Scalar("boolean")
int32, int64 = Scalar("int32"), Scalar("int64")
uint8, uint16, uint32, uint64 = Scalar("uint8"), Scalar("uint16"), Scalar("uint32"), Scalar("uint64")
voidptr = Type("voidptr", lambda types: types.voidptr)
