"""Quire: a virtual-memory hypervisor in Python. The rooms are the packages below; see docs/architecture.md.

:func:`boot` boots an operating system as a guest.
"""

from typing import TYPE_CHECKING

from quire.version import __version__

if TYPE_CHECKING:
    from quire.guest.boot.booted import Booted, boot

__all__ = ["Booted", "__version__", "boot"]


def __getattr__(name: str) -> object:
    """Return what the package offers by itself, whose room is loaded when somebody asks: the package stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'quire' has no attribute {name!r}")
    from quire.guest.boot import booted

    return getattr(booted, name)
