"""Programs of instructions executed: by this machine's processor, and as a guest of Quire's command."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from quire.testing.instructions.image import RECORD_BYTES, State, executable, states

__all__ = ["ExecutionError", "execute_as_guest", "execute_natively"]

_GUEST = (sys.executable, "-P", "-m", "quire", "run", "--report", "none", "--")
_PATIENCE = 600.0  # seconds


class ExecutionError(RuntimeError):
    """A program of instructions that did not run to its end."""


def execute_natively(instances: Sequence[tuple[bytes, State]]) -> list[State]:
    """Return what each instance leaves on this machine's processor. Raises ExecutionError."""
    return _execute(instances, ())


def execute_as_guest(instances: Sequence[tuple[bytes, State]]) -> list[State]:
    """Return what each instance leaves in a guest. Raises ExecutionError."""
    return _execute(instances, _GUEST)


def _execute(instances: Sequence[tuple[bytes, State]], command: Sequence[str]) -> list[State]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instructions"
        path.write_bytes(executable(instances))
        path.chmod(0o700)
        done = subprocess.run(
            [*command, os.fspath(path)], capture_output=True, check=False, timeout=_PATIENCE
        )
    if done.returncode or len(done.stdout) != RECORD_BYTES * len(instances):
        where = "as a guest" if command else "natively"
        said = done.stderr.decode(errors="replace").strip()
        raise ExecutionError(
            f"A program of {len(instances)} instructions ended {where} with status {done.returncode} and "
            f"{len(done.stdout):#x} bytes of results: {said or 'it said nothing'}"
        )
    return list(states(done.stdout))
