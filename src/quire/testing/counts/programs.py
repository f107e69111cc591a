"""A program's run by one engine, as its record has it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from quire.cpu import Detail
from quire.guest.run_spec import RunSpec
from quire.machine import GuestConfig

__all__ = ["program_records"]

_PATIENCE = 600.0  # seconds
#: What differs from run to run, and what says which engine ran.
_LEFT_OUT = ("time", "config")


def program_records(
    engines: tuple[str, ...], command: tuple[str, ...], config: GuestConfig
) -> list[dict[str, Any]]:
    """Run `command` by each of `engines` in full detail, in the same environment; return what their records count."""
    found = []
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            spec, report = Path(folder) / "spec", Path(folder) / "report"
            RunSpec(command, config, Detail.FULL, engine=engine).write(spec)
            done = subprocess.run(
                [sys.executable, "-P", "-m", "quire.guest.worker", os.fspath(spec), os.fspath(report)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                check=False,
                timeout=_PATIENCE,
            )
            record = json.loads(report.read_text())
        counted = {name: value for name, value in record.items() if name not in _LEFT_OUT}
        found.append(_flat(counted) | {"status": done.returncode, "output": done.stdout.hex()})
    return found


def _flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found
