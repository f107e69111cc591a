"""Where the code of kernels comes from: what is stored, what is made once because it is missing, or Numba.

Contract: stored code is used as `store.py` says. On any doubt kernels are compiled in this process by Numba.
"""

import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from quire.kernels import notice
from quire.kernels.declared import Callback, Kernel, called_from_without, use
from quire.kernels.image import Image

__all__ = ["Loading", "load", "load_everything"]

_loading = threading.RLock()


class Loading:
    """The one loader."""

    def load(self, declared: Kernel) -> Callable[..., Any]:
        """See :class:`quire.kernels.declared.Loader`."""
        with _loading:
            if declared.origin is None:
                code = _builtin(declared)
                origin = "compiled" if code is None else "stored"
                if code is None:
                    from quire.kernels.jit import compile_now

                    code = compile_now(declared)
                # Python looks calls up in the class: a class for each kernel spares a level of interpretation.
                declared.__class__ = type("Kernel", (Kernel,), {"__call__": staticmethod(code)})
                declared.origin = origin
        return declared

    def address(self, declared: Callback) -> int:
        """See :class:`quire.kernels.declared.Loader`."""
        with _loading:
            address = _stored(declared)
            declared.origin = "compiled" if address is None else "stored"
            if address is None:
                from quire.kernels.jit import compiled_callback

                address = int(compiled_callback(declared).address)
        return address

    def dispatcher(self, declared: Kernel) -> Any:
        """See :class:`quire.kernels.declared.Loader`."""
        from quire.kernels.jit import dispatcher_of

        return dispatcher_of(declared)

    def type_of(self, value: Any) -> Any:
        """See :class:`quire.kernels.declared.Loader`."""
        from quire.kernels.jit import type_of

        return type_of(value)


use(_loader := Loading())


def load(declared: Kernel) -> Kernel:
    """Return `declared` with its code in place."""
    _loader.load(declared)
    return declared


def _builtin(declared: Kernel) -> Any:
    """Return the stored code of `declared` as a function; None if there is none that may be used."""
    from quire.kernels.place import builtin_of

    address = _stored(declared)
    return None if address is None else builtin_of(declared.__qualname__, address)


def _stored(declared: Kernel | Callback) -> int | None:
    """Return where the stored code of `declared` is in this process; None if there is none that may be used."""
    module = sys.modules[declared.__module__]
    if not module.__name__.startswith("quire."):
        return None  # declared by a test
    names = (name for name, one in called_from_without(module).items() if one is declared)
    return next((address for name in names if (address := _placed(module.__name__).get(name))), None)


@cache
def _placed(module: str) -> dict[str, int]:
    """Return where the stored code of each kernel of `module` is in this process."""
    from quire.kernels.place import PlaceError, place
    from quire.kernels.store import find, unfit

    notice.reason = unfit() or ""
    if not notice.reason:
        image = find(module).image or _made(module)
        if image is not None:
            try:
                return place(image)
            except PlaceError as error:
                notice.reason = str(error)
    return {}


def _made(module: str) -> Image | None:
    """Return the image of `module` once all that is missing has been made; None if that did not succeed."""
    from quire.kernels.store import find

    failed = _failure_of_making()
    if failed:
        notice.reason = failed
        return None
    found = find(module)
    notice.reason = "; ".join(found.doubts)
    return found.image


@cache
def _failure_of_making() -> str:
    """Make what is missing, once a process; return why that failed, nothing if it did not."""
    from quire.kernels.warm import WarmError, warm

    try:
        warm()
    except WarmError as error:
        return str(error)
    return ""


def load_everything() -> None:
    """Load all code that this process may come to need, for one that may neither read nor write files later."""
    from quire.kernels.store import modules_with_code

    for name in modules_with_code():
        for one in called_from_without(sys.modules[name]).values():
            if isinstance(one, Kernel):
                load(one)
            else:
                _ = one.address
