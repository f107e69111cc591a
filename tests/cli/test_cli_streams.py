"""What Quire says reaches its user and nobody else, whatever the guest did to its descriptors; the status is right."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE
from native import environment, loaded_quire, quire

pytestmark = pytest.mark.programs

_DEATH = "quire run: guest killed by SIGSEGV: sent by a process\n"
_DIES = "kill -SEGV $$"


def test_the_obituary_is_not_written_to_the_guests_file(tmp_path: Path) -> None:
    outcome = quire(
        ["/bin/sh", "-c", f"exec 2>mine; echo own >&2; {_DIES}"], "--report", "none", cwd=tmp_path
    )
    assert outcome.status == 128 + signal.SIGSEGV
    assert outcome.stderr.decode().startswith(_DEATH)
    assert (tmp_path / "mine").read_text() == "own\n"


@pytest.mark.parametrize("verb", ["run", "tlb", "audit"])
def test_closed_descriptors_lose_no_report(verb: str, tmp_path: Path) -> None:
    words = [verb, "-o", "report", "--", "/bin/sh", "-c", f"exec 1>&- 2>&-; {_DIES}"]
    done = subprocess.run(
        [*loaded_quire(), *words],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (128 + signal.SIGSEGV, "")
    assert done.stderr.startswith(f"quire {verb}: guest killed by SIGSEGV: ")
    assert (tmp_path / "report").read_text().startswith(f"quire {verb}: ")


def test_a_comparison_hears_of_a_death_by_the_same_way(tmp_path: Path) -> None:
    words = ["compare", "--mmu", "native", "--", "/bin/sh", "-c", f"exec 2>mine; {_DIES}"]
    done = subprocess.run(
        [*loaded_quire(), *words],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGSEGV
    assert done.stderr.startswith(_DEATH)
    assert (tmp_path / "mine").read_text() == ""


def test_a_stdout_left_non_blocking_loses_no_report() -> None:
    """Through a pipe of one page, which the report does not fit in."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)  # as a guest leaves it for all that share the description
    process = subprocess.Popen(
        [*loaded_quire(), "run", "--detail", "full", "--report", "json", "-o", "-", "--", "true"],
        stdout=writer, stderr=subprocess.PIPE, env=environment(),
    )  # fmt: skip
    os.close(writer)
    with open(reader, "rb") as pipe, process:
        assert json.loads(pipe.read())["outcome"]["status"] == 0
        assert process.stderr is not None and process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("ending", ["true", _DIES])
def test_a_full_stderr_is_given_up(ending: str) -> None:
    """A pipe that is full and that nobody reads: Quire's words are lost, its status is not."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    code = (
        "import sys, quire.guest.own_streams as streams\n"
        "streams._NOTICE_PATIENCE = streams._REPORT_PATIENCE = 0.01\n"
        "from quire.cli import main\nmain()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, "run", "--", "/bin/sh", "-c", ending],
            stderr=writer, env=environment(), timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == (0 if ending == "true" else 128 + signal.SIGSEGV)


@pytest.mark.parametrize(("program", "status"), [("true", 0), ("kill -TERM $$", 143), (_DIES, 139)])
def test_a_stderr_that_takes_nothing_changes_no_status(program: str, status: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*loaded_quire(), "run", "--", "/bin/sh", "-c", program],
            stderr=full, env=environment(), timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == status


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"], ["decode", "--list"]])
def test_help_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "quire", *words],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=PATIENCE, check=False,
        )  # fmt: skip
    verb = "" if words[0].startswith("-") else f" {words[0]}"
    assert done.returncode == 125
    assert done.stderr == f"quire{verb}: the answer could not be written: No space left on device\n"
