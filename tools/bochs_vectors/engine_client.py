"""Quire's side of the engine: starts it under the Python that has bochscpu, and gives it jobs."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

__all__ = ["Engine"]

HERE = Path(__file__).parent


class Engine:
    """A running engine; `about` is what it says of its CPU."""

    def __init__(self, python: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        shim = Path(self._folder.name) / "shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(HERE / "shim.c"), "-o", str(shim)], check=True)
        self._process = subprocess.Popen(
            [python, str(HERE / "engine.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"LD_PRELOAD": str(shim), "PATH": "/usr/bin:/bin"},
            text=True,
        )
        self.about: dict[str, Any] = self._line()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine has ended with status {self._process.wait()}")
        return json.loads(line)

    @property
    def capabilities(self) -> dict[int, int]:
        """Number to value of the VMX capability MSRs."""
        return {int(number, 0): value for number, value in self.about["capabilities"].items()}

    def run(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what came of each case of `job`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        for _ in job["cases"]:
            yield self._line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
