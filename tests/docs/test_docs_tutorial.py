"""docs/tutorial.md does what it says: its commands and Python blocks run, in order, and print what is shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE
from native import loaded_folder

pytestmark = pytest.mark.programs

TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(console|python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATUS = "$ echo $?"


def _blocks() -> list[tuple[str, str]]:
    return [(kind, body) for kind, body in _BLOCK.findall(TUTORIAL.read_text())]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": loaded_folder() + os.pathsep + os.environ["PATH"],
        "LC_ALL": "C",
    }


def _run(argv: list[str], folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        argv,
        cwd=folder,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


def _shows(output: str, expected: list[str], command: str) -> None:
    """Assert that the lines of `expected` are in `output`, in that order; the dots stand for anything."""
    at = 0
    for line in expected:
        words = " ".join(line.split())
        if words in ("", "..."):
            continue
        pattern = r"[^\n]*".join(re.escape(part.strip()).replace(r"\ ", r"[ ]+") for part in words.split("…"))
        found = re.compile(pattern).search(output, at)
        assert found, f"{command}\ndoes not print\n{line}\nafter character {at} of\n{output}"
        at = found.end()


def _commands(body: str) -> list[tuple[str, list[str]]]:
    """Return each command of a console block with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line, []))
        else:
            found[-1][1].append(line)
    return found


def _console(body: str, folder: Path) -> None:
    commands = _commands(body)
    status = 0
    for number, (command, expected) in enumerate(commands):
        if command == _STATUS:
            _shows(str(status), expected, command)
            continue
        status, output = _run(["bash", "-c", command[2:]], folder)
        _shows(output, expected, command)
        asked = number + 1 < len(commands) and commands[number + 1][0] == _STATUS
        assert asked or status == 0, f"{command}\nended with {status}:\n{output}"


def test_tutorial(tmp_path: Path) -> None:
    blocks = _blocks()
    assert {kind for kind, _ in blocks} == {"console", "python", "output"}
    printed = ""
    for kind, body in blocks:
        if kind == "console":
            _console(body, tmp_path)
        elif kind == "python":
            status, printed = _run([sys.executable, "-c", body], tmp_path)
            assert status == 0, printed
        else:
            _shows(printed, body.splitlines(), "The Python block above")


def test_files_that_the_documents_name() -> None:
    """Each relative link, and each test, benchmark or source that is named, is a file that is there."""
    root = TUTORIAL.parents[1]
    for document in TUTORIAL.parent.rglob("*.md"):
        text = document.read_text()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
        for target in re.findall(r"\b((?:tests|bench|src)/[\w/]+\.\w+)", text):
            assert (root / target).exists(), f"{document.name} names {target}"
