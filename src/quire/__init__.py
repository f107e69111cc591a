"""Quire: a virtual-memory hypervisor in Python. The rooms are the packages below; see docs/architecture.md.

:func:`boot` boots an operating system as a guest.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quire.guest.boot.booted import Booted, boot

__all__ = ["Booted", "boot"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what is offered here when it is asked for: the package itself stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    from quire.guest.boot import booted

    return getattr(booted, name)
