"""Kernels compiled by Numba in this process: used where no stored code fits, and to make what is stored."""

import threading
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.registry import cpu_target
from numba.core.runtime.nrt import rtsys
from numba.core.sigutils import normalize_signature

from quire.kernels import notice
from quire.kernels.declared import Callback, Kernel

__all__ = [
    "compile_now",
    "compiled_callback",
    "dispatcher_of",
    "learn_intrinsics",
    "type_of",
    "without_cache",
]

#: What Numba asks of a dispatcher that has no code yet: for a call from Python, and for a caller's types.
_QUESTIONS = ("_compile_for_args", "get_call_template")
# Numba's types say nothing of what is inside.
_njit: Any = njit
_FunctionCache: Any = FunctionCache
_CFunc: Any = CFunc
_runtime: Any = rtsys
_normalize: Any = normalize_signature
_compiling = threading.RLock()
_caching = True


def without_cache() -> None:
    """Keep what this process compiles out of Numba's cache, and use nothing of it."""
    global _caching
    _caching = False


def _cache_for(function: Callable[..., Any]) -> Any:
    """Return Numba's cache of `function`, that reads code without what only a compilation needs.

    Before it reads, Numba's own imports and registers a hundred modules, a fifth of a second in every process. A Numba
    that is made otherwise than those known here does so still. None where there is no folder for it, or none is wanted.
    """
    if not _caching:
        return None
    try:
        cache = _FunctionCache(function)
    except RuntimeError:  # no home, a file system that is read only: each process compiles for itself
        return None
    if hasattr(cache, "_load_overload") and hasattr(cache, "_guard_against_spurious_io_errors"):
        cache.load_overload = partial(_read, cache)
    return cache


def _read(cache: Any, signature: Any, target: Any) -> Any:
    """Return the code that `cache` has for `signature`, or None."""
    _runtime.initialize(target)  # the functions of Numba's that code calls
    with cache._guard_against_spurious_io_errors():
        return cache._load_overload(signature, target)


def dispatcher_of(declared: Kernel) -> Any:
    """Return Numba's dispatcher of `declared`, whose code is made when it is called, or one that calls it compiled."""
    dispatcher = _njit(nogil=True, **declared.options)(declared.py_func)
    cache = _cache_for(declared.py_func)
    if cache is not None:
        dispatcher._cache = cache

    def compile_for_args(*args: Any, **kws: Any) -> Any:
        # what is returned is called with the same arguments, which meet the signature then
        return compile_now(declared)

    def get_call_template(args: Any, kws: Any) -> Any:
        return compile_now(declared).get_call_template(args, kws)

    dispatcher.__dict__.update(zip(_QUESTIONS, (compile_for_args, get_call_template), strict=True))
    return dispatcher


def compile_now(declared: Kernel) -> Any:
    """Return the dispatcher of `declared` with its code in place; it takes no other types from then on."""
    dispatcher = declared.dispatcher
    with _compiling:
        if not dispatcher.overloads:
            learn_intrinsics()
            dispatcher.compile(declared.declared_signature.numba())
            dispatcher.disable_compile()
            for question in _QUESTIONS:
                del dispatcher.__dict__[question]
    return dispatcher


def compiled_callback(declared: Callback) -> Any:
    """Return the C function of `declared`, compiled."""
    with _compiling:
        learn_intrinsics()
        made = _CFunc(
            declared.py_func, _normalize(declared.declared_signature.numba()), locals={}, options={}
        )
        cache = _cache_for(declared.py_func)
        if cache is not None:
            made._cache = cache
        made.compile()
    return made


@cache
def learn_intrinsics() -> None:
    """Tell Numba how the plain functions that kernels call are compiled."""
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("_intrinsics.py")):
        import_module(".".join(("quire", *path.relative_to(package).with_suffix("").parts)))


def type_of(value: Any) -> Any:
    """Return Numba's type of `value`, a function that it knows."""
    return cpu_target.typing_context.resolve_value_type(value)


class _FirstCompilation(event.Listener):
    """Has it said that a compilation begins."""

    def on_start(self, event: Any) -> None:
        why = f" with Numba, for {notice.reason}" if notice.reason else ""
        notice.about_to_compile(f"compiling kernels{why} (once, up to a minute)")

    def on_end(self, event: Any) -> None:
        pass


_register: Any = event.register
_register("numba:compile", _FirstCompilation())
