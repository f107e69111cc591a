"""Paths of the tests' own helper modules, which are imported by name; and kernels compiled before tests begin."""

import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE, pytest_configure

__all__ = ["pytest_configure", "pytest_sessionstart"]

for folder in Path(__file__).parent.iterdir():
    if folder.is_dir() and not folder.name.startswith((".", "_")):
        sys.path.insert(0, str(folder))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before workers start, two processes compile all kernels, each from its end; what one did the other finds."""
    if getattr(session.config.option, "numprocesses", None):
        command = [sys.executable, str(Path(__file__).parent / "warm.py")]
        processes = [subprocess.Popen([*command, *more]) for more in ((), ("backwards",))]
        assert not any([process.wait(4 * PATIENCE) for process in processes])
