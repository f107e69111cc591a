"""A test that hangs fails by name, and no test waits for a process without a limit."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from limits import PATIENCE

TESTS = Path(__file__).parent
#: One stands in C and keeps the interpreter's lock, as a compiled loop without end does: no thread has a turn.
HANGS = """
import ctypes

def test_that_ends():
    pass

def test_that_stands_in_compiled_code():
    ctypes.PyDLL(None).pause()
"""
#: What starts a process and waits for it.
RUNS = {"run", "call", "check_call", "check_output"}


def hanging(folder: Path, *options: str) -> str:
    """Run the tests above under this project's settings, but for a limit of a second; return what is printed."""
    (folder / "test_hanging.py").write_text(HANGS)
    settings = [
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        f"--rootdir={folder}",
        "-p",
        "no:cacheprovider",
        "-p",
        "limits",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *settings,
            "-o",
            "faulthandler_timeout=1",
            *options,
            "test_hanging.py",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_a_test_that_hangs_fails_by_name(tmp_path: Path) -> None:
    said = hanging(tmp_path, "-n", "1", "--dist", "loadgroup")
    assert "crashed while running 'test_hanging.py::test_that_stands_in_compiled_code'" in said
    assert "1 failed" in said


def test_it_is_shown_where_a_test_hangs(tmp_path: Path) -> None:
    assert 'test_hanging.py", line 8 in test_that_stands_in_compiled_code' in hanging(
        tmp_path, "-p", "no:xdist"
    )


def unlimited(source: str) -> Iterator[int]:
    """Yield the lines of calls that wait for a process for ever."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            limited = any(keyword.arg == "timeout" for keyword in node.keywords)
            owner = node.func.value
            runs = isinstance(owner, ast.Name) and owner.id == "subprocess" and node.func.attr in RUNS
            waits = node.func.attr in ("wait", "communicate") and not node.args
            if (runs or waits) and not limited:
                yield node.lineno


def test_waits_without_a_limit_are_found() -> None:
    source = "subprocess.run([a])\nprocess.wait()\nprocess.wait(timeout=3)\nprocess.communicate()\nprocess.wait(3)\n"
    assert list(unlimited(source)) == [1, 2, 4]
    assert list(unlimited("subprocess.run([a], timeout=3)\nother.run()\n")) == []


def test_no_process_is_waited_for_without_a_limit() -> None:
    found = {path.name: lines for path in TESTS.rglob("*.py") if (lines := [*unlimited(path.read_text())])}
    assert found == {}
