"""Loads all of Quire, for a process that forks for many commands."""

import importlib
import pkgutil

import quire
from quire.kernels.loading import load_everything


def load_all() -> None:
    """Import every module but those of `quire.testing`, and load the code of their kernels."""
    for module in pkgutil.walk_packages(quire.__path__, "quire."):
        if not module.name.startswith("quire.testing") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    load_everything()
