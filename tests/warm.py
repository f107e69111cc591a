"""Loads every kernel, so that none is compiled in a test: ``python tests/warm.py [backwards]``."""

import importlib
import pkgutil
import sys

import quire
from quire.kernels import Callback, load


def load_all(*, backwards: bool = False) -> None:
    """Import every module but those of `quire.testing`, and load their kernels; `backwards`, the last module first."""
    names = [module.name for module in pkgutil.walk_packages(quire.__path__, "quire.")]
    for name in reversed(names) if backwards else names:
        if not name.startswith("quire.testing") and not name.endswith("__main__"):
            for one in list(vars(importlib.import_module(name)).values()):
                if hasattr(one, "declared_signature"):
                    load(one)
                elif isinstance(one, Callback):
                    assert one.address


if __name__ == "__main__":
    load_all(backwards="backwards" in sys.argv)
