"""How commands end that nobody lets end: signals, failures that nobody foresaw. One line, the right status."""

import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE
from native import QUIRE, environment

_RUNS = [sys.executable, "-c"]


def _said(
    code: str, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, str]:
    """Run Python `code` with the arguments `words`; return its status and what it wrote to stderr."""
    done = subprocess.run(
        [*_RUNS, code, *words],
        capture_output=True, text=True, env=environment(env), cwd=cwd, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    return done.returncode, done.stderr


#: A verb that fails as none should: `decode`, whose own work is replaced.
_FAILS = """
import quire.cli.decode as decode
def fail(*_): raise ZeroDivisionError("of nobody's making")
decode._decode = fail
from quire.cli import main
main()
"""


@pytest.mark.parametrize("hidden", [False, True])
def test_a_failure_that_nobody_foresaw_is_one_line_and_a_file(hidden: bool, tmp_path: Path) -> None:
    words = ["decode", "pte", "0x67", *(["--no-argv"] if hidden else [])]
    code = _FAILS
    if hidden:  # decode runs no program: what the option does is the same for every verb
        add = "click.option('--no-argv', is_flag=True, expose_value=False)(decode.command)"
        code = f"import click, quire.cli.decode as decode\n{add}\n{code}"
    status, text = _said(code, *words, env={"TMPDIR": str(tmp_path)})
    found = re.fullmatch(
        r"quire decode: unexpected ZeroDivisionError, a bug in Quire: please report it, with the file (.+)\n",
        text,
    )
    assert status == 125 and found
    path = Path(found[1])
    assert path.parent == tmp_path and stat.S_IMODE(path.stat().st_mode) == 0o600
    report = path.read_text()
    assert "ZeroDivisionError: of nobody's making" in report and "in fail" in report
    shown = re.search(r"^command  (.*)$", report, re.MULTILINE)
    assert shown and shown[1] == repr(["quire", *(["decode", "(not shown: --no-argv)"] if hidden else words)])


def test_without_room_for_a_file_it_is_one_line(tmp_path: Path) -> None:
    code = "import tempfile; tempfile.tempdir = '/nowhere/at/all'\n" + _FAILS
    status, text = _said(code, "decode", "pte", "1")
    assert status == 125
    assert text == (
        "quire decode: unexpected ZeroDivisionError, a bug in Quire: there is no more about it, "
        "for no file could be written: No such file or directory\n"
    )


_SIGNALLED = """
import os, signal, sys
class Finder:  # a signal that comes while Quire imports its parts
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{number})
sys.meta_path.insert(0, Finder())
from quire.cli import main
main()
"""
_ENDINGS = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "terminated"), "SIGHUP": (129, "hung up")}


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("click", "SIGINT"),
        ("click", "SIGTERM"),
        ("click", "SIGHUP"),
        ("numpy", "SIGINT"),
        ("unicorn", "SIGTERM"),
    ],
)
def test_signals_before_a_guest_runs(module: str, number: str, tmp_path: Path) -> None:
    """At any place of the set-up: one line, its status, and the report of an earlier run as it was."""
    (tmp_path / "report").write_text("earlier")
    status, words = _ENDINGS[number]
    code = _SIGNALLED.format(module=module, number=number)
    ended = _said(code, "run", "-o", "report", "--", "true", cwd=tmp_path)
    assert ended == (status, f"quire: {words}\n")
    assert (tmp_path / "report").read_text() == "earlier"


def test_an_ignored_signal_stays_ignored() -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = subprocess.run(
        [*_RUNS, code + _SIGNALLED.format(module="quire.cli.decode", number="SIGINT"), "decode", "pte", "1"],
        capture_output=True, env=environment(), timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout


#: The first run ends; the second says so, and goes on for ever.
_WAITS = (
    "echo once >> ran; n=0; while read line; do n=$((n + 1)); done < ran;"
    "[ $n = 1 ] || { exec > second; echo; while :; do :; done; }"
)


def _comparison(folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start a comparison of which the first run has ended, and the second waits for ever."""
    os.mkfifo(folder / "second")
    process = subprocess.Popen(
        [QUIRE, "compare", "--mmu", "native,ept", *words, "--", "/bin/sh", "-c", _WAITS],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment({"TMPDIR": str(folder)}), cwd=folder,
    )  # fmt: skip
    reader = os.open(folder / "second", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert select.select([reader], [], [], PATIENCE)[0], "the second run did not begin"
    finally:
        os.close(reader)
    return process


@pytest.mark.programs
def test_an_interrupted_comparison_keeps_the_rows_that_there_are(tmp_path: Path) -> None:
    process = _comparison(tmp_path, "--json", "-o", "record.json")
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    lines = text.decode().splitlines()
    assert lines == ["quire compare: interrupted, 1 of 2 runs had ended"]
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["partial"] and [row["name"] for row in record["rows"]] == ["native 4K"]


def _children(task: Path) -> list[int]:
    return [int(word) for word in (task / "children").read_text().split()]


@pytest.mark.programs
def test_a_killed_comparison_leaves_nothing(tmp_path: Path) -> None:
    """Its run ends with it, and no file has a name: the temporary folder has what the test made."""
    process = _comparison(tmp_path)
    (child,) = (one for task in Path(f"/proc/{process.pid}/task").iterdir() for one in _children(task))
    ended = os.pidfd_open(child)
    process.kill()
    process.communicate(timeout=PATIENCE)
    try:
        assert select.select([ended], [], [], PATIENCE)[0], "the run goes on"
    finally:
        os.close(ended)
    assert {one.name for one in tmp_path.iterdir()} == {"second", "ran"}


_CASE = """
from quire.testing import Suite
MINE = Suite("mine", oracle="nobody", title="waits")
@MINE.case("waits")
def waits(state, tally):
    with open("begun", "w") as file:
        print(file=file)
    while True:
        pass
"""


def test_control_c_in_a_check_is_one_line_and_ends_its_cases(tmp_path: Path) -> None:
    """As a terminal does it: the signal goes to the command and to the process of the case that runs."""
    (tmp_path / "mine.py").write_text(_CASE)
    os.mkfifo(tmp_path / "begun")
    process = subprocess.Popen(
        [QUIRE, "check", "--load", "mine.py", "--suite", "mine"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    with open(tmp_path / "begun", "rb") as begun:
        assert begun.readline() == b"\n"
    os.killpg(process.pid, signal.SIGINT)
    out, text = process.communicate(timeout=PATIENCE)  # a case that went on would hold the pipes open
    assert (process.returncode, out, text) == (130, b"", b"quire: interrupted\n")
