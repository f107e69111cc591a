"""Runs one command natively and under ``quire run``, and compares what the user gets, byte for byte.

Quire's report goes to a file, so that stderr is the guest's alone. Both runs get the same small environment, the
same directory and the same standard input.
"""

import atexit
import difflib
import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE

QUIRE = str(Path(sysconfig.get_path("scripts")) / "quire")
REPO = Path(__file__).resolve().parents[2]
#: The variable that has the number and the path of the server of all workers, which conftest.py starts.
SERVER = "QUIRE_TEST_SERVER"
#: How Quire's words begin that name a system call which it lacks.
LACKS = b"quire run: the guest asked for "
MMUS = ("native", "ept", "shadow")


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a run: exit status (128 + N for signal N), and the two streams."""

    status: int
    stdout: bytes
    stderr: bytes


def need(name: str) -> str:
    """Return the path of program `name`, or skip: this machine does not have it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"this machine has no {name}")
    return found


def python() -> str:
    """Return a real Python interpreter: the one on PATH may be a shell script that needs exec."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of all runs: the machine's PATH and the C locale."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": os.environ.get("HOME", "/"), **(extra or {})}


def start_server() -> str:
    """Start the process that forks for commands; return its number and its socket's path. It ends with this one."""
    server = str(Path(__file__).parent / "fork_server.py")
    path = f"{tempfile.mkdtemp()}/socket"
    process = subprocess.Popen(
        [sys.executable, server, "serve", path], stdin=subprocess.PIPE, env=environment()
    )
    atexit.register(shutil.rmtree, Path(path).parent)
    atexit.register(process.kill)
    return f"{process.pid} {path}"


@functools.cache
def loaded_quire() -> tuple[str, ...]:
    """Return the words that stand for ``quire`` and start faster: see fork_server.py."""
    number, path = (os.environ.get(SERVER) or start_server()).split(" ", 1)
    while not Path(path).exists():
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        assert state not in "ZX", "the fork server ended"
        time.sleep(0.05)
    return (sys.executable, "-IS", str(Path(__file__).parent / "fork_server.py"), "run", path)


def loaded_folder() -> str:
    """Return a folder with a program ``quire`` that starts faster; it is ``python -P -m quire`` as well."""
    return str(Path(loaded_quire()[-1]).parent)


def execute(
    argv: Sequence[str | Path],
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `argv` on this machine and return what the user sees."""
    done = subprocess.run(
        [os.fspath(word) for word in argv],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(env),
        timeout=PATIENCE,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Outcome(status, done.stdout, done.stderr)


def quire(
    argv: Sequence[str | Path],
    *options: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `argv` under ``quire run OPTIONS`` and return what the user sees."""
    return execute([*loaded_quire(), "run", *options, "--", *argv], stdin, cwd, env)


def quire_text(
    argv: Sequence[str | Path],
    *options: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[Outcome, str]:
    """Run `argv` under ``quire run OPTIONS``: what the user sees, and the text of the JSON report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        outcome = quire(argv, "--report", "json", "-o", str(report), *options, stdin=stdin, cwd=cwd, env=env)
        return outcome, report.read_text() if report.exists() else ""


def quire_report(
    argv: Sequence[str | Path],
    *options: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[Outcome, dict[str, Any]]:
    """Run `argv` under ``quire run OPTIONS``: what the user sees, and the report."""
    outcome, text = quire_text(argv, *options, stdin=stdin, cwd=cwd, env=env)
    assert text, f"no report; status {outcome.status}, stderr {outcome.stderr.decode(errors='replace')}"
    return outcome, json.loads(text)


def compare(
    argv: Sequence[str | Path],
    *options: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Assert that `argv` gives the same streams and status natively and under quire; return the report."""
    expected = execute(argv, stdin, cwd, env)
    outcome, record = quire_report(argv, *options, stdin=stdin, cwd=cwd, env=env)
    same(outcome, expected)
    assert record["outcome"]["status"] == expected.status
    return record


def same(outcome: Outcome, expected: Outcome) -> None:
    """Assert that two runs look alike, naming the stream that differs first.

    What Quire itself says on stderr, of calls that it lacks, is no part of that.
    """
    own = [line for line in outcome.stderr.splitlines(keepends=True) if not line.startswith(LACKS)]
    assert b"".join(own) == expected.stderr
    assert outcome.status == expected.status
    if len(expected.stdout) < 100_000:
        native, guest = (one.stdout.decode(errors="replace").splitlines(True) for one in (expected, outcome))
        assert outcome.stdout == expected.stdout, "".join(
            difflib.unified_diff(native, guest, "native", "guest", n=0)
        )
    else:  # pytest would spend minutes on the difference of two large strings
        assert outcome.stdout == expected.stdout or pytest.fail(
            first_difference(outcome.stdout, expected.stdout)
        )


def first_difference(left: bytes, right: bytes) -> str:
    """Return where two byte strings part."""
    pairs = zip(left, right, strict=False)
    at = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
    near = f"{left[at : at + 40]!r}, {right[at : at + 40]!r}"
    return f"stdout differs at byte {at} of {len(left)} and {len(right)}: {near}"
