"""How a compiled loop is declared: one explicit signature, cached on disk, and not loaded before its first use.

A kernel that only other kernels call is part of their machine code: when that comes from the cache, the callee is
never loaded. So a command pays for the few kernels that it calls, not for all that its modules name.
"""

import contextlib
import importlib
import os
import threading
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.runtime.nrt import rtsys
from numba.core.sigutils import normalize_signature

__all__ = [
    "Callback",
    "before_compiling",
    "cache_of",
    "callback",
    "compile_missing",
    "kernel",
    "load",
]

#: What Numba asks of a dispatcher that has no code yet: for a call from Python, and for a caller's types.
_QUESTIONS = ("_compile_for_args", "get_call_template")
# Numba's types say nothing of what is inside.
_FunctionCache: Any = FunctionCache
_CFunc: Any = CFunc
_runtime: Any = rtsys
_normalize: Any = normalize_signature
_loading = threading.RLock()
#: All that was declared so far.
_declared: list[Any] = []
_callbacks: list["Callback"] = []


def _cache_for(function: Callable[..., Any]) -> Any:
    """Return Numba's cache of `function`, that reads code without what only a compilation needs.

    Before it reads, Numba's own imports and registers a hundred modules, a fifth of a second in every process. A Numba
    that is made otherwise than those known here does so still. Raises RuntimeError where there is no folder for it.
    """
    cache = _FunctionCache(function)
    if hasattr(cache, "_load_overload") and hasattr(cache, "_guard_against_spurious_io_errors"):
        cache.load_overload = partial(_read, cache)
    return cache


def _read(cache: Any, signature: Any, target: Any) -> Any:
    """Return the code that `cache` has for `signature`, or None."""
    _runtime.initialize(target)  # the functions of Numba's that code calls
    with cache._guard_against_spurious_io_errors():
        return cache._load_overload(signature, target)


def kernel(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function for `signature` alone (a Numba type, `R(A, B)`).

    The code is made, or read from the cache, when Python first calls the function or another kernel is compiled
    that calls it; until then the declaration costs nothing. `options` go to ``numba.njit`` (``inline="always"``).
    Under ``NUMBA_DISABLE_JIT=1`` the function stays as it is.
    """

    def declare(function: Callable[..., Any]) -> Any:
        dispatcher = _compiled_lazily(function, options)
        if dispatcher is function:  # NUMBA_DISABLE_JIT
            return function

        def compile_for_args(*args: Any, **kws: Any) -> Any:
            # what is returned is called with the same arguments, which meet the signature then
            return load(dispatcher)

        def get_call_template(args: Any, kws: Any) -> Any:
            return load(dispatcher).get_call_template(args, kws)

        dispatcher.declared_signature = signature
        dispatcher.__dict__.update(zip(_QUESTIONS, (compile_for_args, get_call_template), strict=True))
        return dispatcher

    return declare


def _compiled_lazily(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return Numba's dispatcher of `function`: with the cache, or where no folder for one can be written, without."""
    dispatcher = njit(nogil=True, **options)(function)
    if dispatcher is function:  # NUMBA_DISABLE_JIT
        return function
    try:
        cache = _cache_for(function)
    except RuntimeError:  # no home, a file system that is read only: each process compiles for itself
        return dispatcher
    dispatcher._cache = cache
    _declared.append(dispatcher)
    return dispatcher


def compile_missing() -> None:
    """Compile every kernel that the cache lacks, for a process that may not write it later.

    Whether the cache has one is seen by the file that Numba keeps of it; where that cannot be told, it is loaded.
    """
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("_kernels*.py")):
        importlib.import_module(".".join(("quire", *path.relative_to(folder).with_suffix("").parts)))
    for dispatcher in _declared:
        index = getattr(
            getattr(getattr(dispatcher, "_cache", None), "_cache_file", None), "_index_path", None
        )
        if index is None or not os.path.exists(index):
            load(dispatcher)
    for made in _callbacks:
        _ = made.address


def load(dispatcher: Any) -> Any:
    """Return `dispatcher`, a kernel, with its code in place; it takes no other types from then on."""
    with _loading:
        if not dispatcher.overloads:
            dispatcher.compile(dispatcher.declared_signature)
            dispatcher.disable_compile()
            for question in _QUESTIONS:
                del dispatcher.__dict__[question]
    return dispatcher


def cache_of(dispatcher: Any) -> tuple[str | None, bool]:
    """Return the folder in which `dispatcher`, a kernel, is cached, None for none; and whether its code is there."""
    cache = dispatcher._cache
    path = cache.cache_path
    return path, path is not None and bool(cache._cache_file._load_index())


class Callback:
    """A function that foreign code calls by its address; compiled, or read from the cache, when that is asked for."""

    def __init__(self, signature: Any, function: Callable[..., Any]) -> None:
        self.__doc__ = function.__doc__
        self._signature, self._function = signature, function
        _callbacks.append(self)

    @cached_property
    def address(self) -> int:
        """Where the machine code begins, to be called with the C types of the signature."""
        return int(self._compiled.address)

    @cached_property
    def _compiled(self) -> Any:
        made = _CFunc(self._function, _normalize(self._signature), locals={}, options={})
        with contextlib.suppress(RuntimeError):  # there is no folder for a cache
            made._cache = _cache_for(self._function)
        made.compile()
        return made


def callback(signature: Any) -> Callable[[Callable[..., Any]], Callback]:
    """Return a decorator that makes a function a `Callback` of `signature` (a Numba type, `R(A, B)`)."""
    return lambda function: Callback(signature, function)


class _FirstCompilation(event.Listener):
    """Calls `say` when a compilation begins, and forgets it."""

    say: Callable[[], None] | None = None

    def on_start(self, event: Any) -> None:
        say, self.say = self.say, None
        if say is not None:
            say()

    def on_end(self, event: Any) -> None:
        pass


_first: Any = _FirstCompilation()
_register: Any = event.register
_register("numba:compile", _first)


def before_compiling(say: Callable[[], None]) -> None:
    """Have `say` called once, before the next kernel that is not in the cache is compiled."""
    _first.say = say
