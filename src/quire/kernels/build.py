"""Makes images, in a process of its own: see ``warm.py``, which starts several.

The code of a module does not depend on what the process made before, so that two builds are the same bytes.
"""

import gc
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from numba.core.registry import cpu_target

from quire.kernels.declared import Kernel, called_from_without
from quire.kernels.image import Image
from quire.kernels.jit import compile_now, compiled_callback, learn_intrinsics, without_cache
from quire.kernels.library import StoredLibrary, machines_of
from quire.kernels.link import link
from quire.kernels.sources import fingerprint
from quire.kernels.store import put
from quire.kernels.wrapper import wrap_callback, wrap_kernel

__all__ = ["serve"]

#: The callbacks that were asked for, by module and name.
_callbacks: set[tuple[str, str]] = set()


def _build(module: str, machines: dict[str, Any]) -> Iterator[Image]:
    """Yield the image of `module` for each of `machines`: of its callbacks, and of its kernels that Python calls."""
    libraries = []
    for name, one in called_from_without(import_module(module)).items():
        if isinstance(one, Kernel):
            (result,) = compile_now(one).overloads.values()
            libraries.append((name, result.fndesc.llvm_cpython_wrapper_name, result.library))
        else:
            _callbacks.add((module, one.__qualname__))
            made = compiled_callback(one)
            libraries.append((name, made.native_name, made._library))
    for level, machine in machines.items():
        linked = link((name, symbol, library.emit_object(machine)) for name, symbol, library in libraries)
        yield Image(module, fingerprint(module), level, *linked)


def _prepare() -> None:
    """Have Numba use our wrappers and libraries instead of its own, and keep nothing."""
    without_cache()
    learn_intrinsics()
    context = cpu_target.target_context
    context.codegen()._library_class = StoredLibrary
    context.codegen().set_env = lambda *_: None  # of code that is not loaded
    context.create_cpython_wrapper = lambda library, fndesc, *_, **__: wrap_kernel(context, library, fndesc)

    def of_callback(library: Any, fndesc: Any, *_: Any) -> None:
        if (fndesc.modname, fndesc.qualname) in _callbacks:  # Numba asks for all that a callback calls, too
            wrap_callback(context, library, fndesc)

    context.create_cfunc_wrapper = of_callback


def serve(folder: Path, levels: Sequence[str]) -> None:
    """Make an image in `folder` for each line of stdin, a module and the beginning of file names, and each of `levels`.

    Each line is answered with its module when that is done.
    """
    _prepare()
    machines = machines_of(cpu_target.target_context.codegen(), levels)
    gc.disable()  # a compilation makes objects without end, and few circles
    for line in sys.stdin:
        module, name = line.split()
        for image in _build(module, machines):
            put(folder / f"{name}.{image.processor}.image", image.encode())
        print(module, flush=True)
