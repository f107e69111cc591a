"""How kernels are declared: a signature, a function, and nothing else until the code is needed.

Where the code comes from is no matter of this file: `loading.py` says so, by :func:`use`.
"""

import os
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from quire.kernels.types import Array, NamedTuple, Signature, Type, boolean, int64, uint64, void

__all__ = [
    "Callback",
    "CompiledBy",
    "Kernel",
    "Loader",
    "callback",
    "called_from_without",
    "carray",
    "compiled_by",
    "kernel",
    "use",
]


class Loader(Protocol):
    """Where code comes from."""

    def load(self, declared: "Kernel") -> Callable[..., Any]:
        """Return what runs the code of a kernel, and has been put in its place."""

    def address(self, declared: "Callback") -> int:
        """Return where the code of a callback is."""

    def dispatcher(self, declared: "Kernel") -> Any:
        """Return what Numba compiles a kernel with; it takes no other types than those of the signature."""

    def type_of(self, value: Any) -> Any:
        """Return Numba's type of a function that Numba knows."""


_loader: Loader


def use(loader: Loader) -> None:
    """Have all code come from `loader`."""
    global _loader
    _loader = loader


class Kernel:
    """A compiled loop. Its code is loaded when Python first calls it; one that only kernels call is part of theirs."""

    def __init__(self, function: Callable[..., Any], signature: Signature, options: dict[str, Any]) -> None:
        self.py_func, self.declared_signature, self.options = function, signature, options
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        #: Where the code is from, once it is loaded: "stored" or "compiled".
        self.origin: str | None = None

    def __call__(self, *arguments: Any) -> Any:
        return _loader.load(self)(*arguments)

    def __repr__(self) -> str:
        return f"<kernel {self.__module__}.{self.__qualname__}>"

    @property
    def takes_arrays(self) -> bool:
        """Whether it is for Python to call: it takes arrays, and numbers, but no addresses."""
        result, arguments = self.declared_signature.result, self.declared_signature.arguments
        of_python = result in (int64, uint64, boolean, void) and all(map(_from_python, arguments))
        return of_python and any(isinstance(one, Array | NamedTuple) for one in arguments)

    @cached_property
    def dispatcher(self) -> Any:
        """What Numba compiles it with."""
        return _loader.dispatcher(self)

    # What Numba asks of a function that a kernel calls.
    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    @property
    def targetoptions(self) -> Any:
        """Numba's options."""
        return self.dispatcher.targetoptions


def _from_python(argument: Type) -> bool:
    if isinstance(argument, NamedTuple):
        return all(isinstance(part, Array) for part in argument.parts)
    return isinstance(argument, Array) or argument in (int64, uint64, boolean)


class Callback:
    """A function that foreign code calls by its address; its code is loaded when that is asked for."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.py_func, self.declared_signature = function, signature
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        #: Where the code is from, once it is loaded: "stored" or "compiled".
        self.origin: str | None = None

    @cached_property
    def address(self) -> int:
        """Where the machine code begins, to be called with the C types of the signature."""
        return _loader.address(self)


def kernel(signature: Signature, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that makes a function a `Kernel` of `signature` (``R(A, B)``).

    `options` go to ``numba.njit`` (``inline="always"``). Under ``NUMBA_DISABLE_JIT=1`` the function stays as it is.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return lambda function: function
    return lambda function: Kernel(function, signature, options)


def callback(signature: Signature) -> Callable[[Callable[..., Any]], Callback]:
    """Return a decorator that makes a function a `Callback` of `signature` (``R(A, B)``)."""
    return lambda function: Callback(function, signature)


def called_from_without(module: ModuleType) -> dict[str, Kernel | Callback]:
    """Return what `module` declares that Python or C calls, by the names that it has there."""
    return {
        name: one
        for name, one in vars(module).items()
        if isinstance(one, Callback) or (isinstance(one, Kernel) and one.takes_arrays)
        if one.__module__ == module.__name__
    }


class CompiledBy:
    """Something of Numba's, or that needs Numba, which kernels name: found when one of them is compiled."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __repr__(self) -> str:
        return f"{self._module}.{self._name}"

    def __call__(self, *arguments: Any) -> Any:
        return getattr(import_module(self._module), self._name)(*arguments)

    @property
    def _numba_type_(self) -> Any:
        return _loader.type_of(getattr(import_module(self._module), self._name))


def compiled_by(module: str, name: str) -> Any:
    """Return what stands for `name` of `module` in kernels, without an import of it."""
    return CompiledBy(module, name)


#: An array at an address.
carray = compiled_by("numba", "carray")
