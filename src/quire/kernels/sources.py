"""What the code of a module's kernels was made from, as a hash: the text of kernels, and the values that it names.

A kernel's code depends on its own module, on those of the kernels and functions that it calls, on the constants in them
(which are imported from everywhere, so that their values count, not their files), and on how code is made.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from quire.kernels.declared import Callback, CompiledBy, Kernel
from quire.kernels.types import ExternalFunction, Signature, Type

__all__ = ["fingerprint", "reached", "value_of"]

#: Of this room, what decides how code is made.
_MAKERS = ("wrapper.py", "link.py", "build.py", "library.py", "jit.py", "types.py")
_INTRINSICS = "_intrinsics.py"


@cache
def fingerprint(module: str) -> str:
    """Return the hash of all that the code of `module` is made from; it must have been imported."""
    found = hashlib.sha256()
    for name in sorted(reached(module)):
        found.update(b"%s\n%s" % (name.encode(), _of_module(name)))
    here = Path(__file__).parent
    for maker in _MAKERS:
        found.update(_of_file(str(here / maker)))
    return found.hexdigest()


def reached(module: str) -> set[str]:
    """Return the names of the modules whose text makes the code of `module`, itself among them."""
    found, open_ends = {module}, [module]
    while open_ends:
        for name in _neighbours(sys.modules[open_ends.pop()]):
            if name not in found:
                found.add(name)
                open_ends.append(name)
    return found


def _neighbours(module: ModuleType) -> Iterator[str]:
    for value in vars(module).values():
        kind = type(value)
        if kind is ModuleType:
            name = value.__name__
        elif kind is FunctionType or isinstance(value, Kernel | Callback):
            name = value.__module__
        else:
            continue
        if "._kernels" in name and name in sys.modules:
            yield name


@cache
def _of_module(name: str) -> bytes:
    """Return the hash of the text of a module, of its intrinsics, and of the constants that it names."""
    module = sys.modules[name]
    found = hashlib.sha256(_of_file(module.__file__ or ""))
    intrinsics = Path(module.__file__ or "").parent / _INTRINSICS
    found.update(_of_file(str(intrinsics)))
    for key, value in vars(module).items():
        text = None if key.startswith("__") else value_of(value)  # where the file is does not matter
        if text is not None:
            found.update(f"{key}={text}\n".encode())
    return found.digest()


@cache
def _of_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:  # a room without intrinsics; where no source can be read no code fits
        return b""


def value_of(value: Any) -> str | None:
    """Return a text of what `value` is to compiled code; None for what such code cannot name, or names by its file."""
    if isinstance(value, np.generic):
        return f"{value.dtype.char}{value.tobytes().hex()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}{value.tobytes().hex()}"
    if isinstance(value, bool | int | float | str | Type | Signature | ExternalFunction | CompiledBy):
        return repr(value)
    if isinstance(value, type) and issubclass(value, tuple):
        return f"{value.__name__}{getattr(value, '_fields', ())}"
    return None
