"""Quire: a virtual-memory hypervisor in Python. The rooms are the packages below; see docs/architecture.md.

:func:`quire.boot` boots an operating system as a guest: see :mod:`quire.guest.boot.booted`.
"""

import importlib
from typing import Any

__all__ = ["Booted", "boot"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return what the package offers by itself, whose room is loaded when somebody asks: the package stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    return getattr(importlib.import_module("quire.guest.boot.booted"), name)
