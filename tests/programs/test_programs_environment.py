"""Where a guest's names lead and what its environment is: --root and -E."""

from pathlib import Path

import pytest
from native import quire

pytestmark = pytest.mark.programs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with files that the host has as well, and others that it does not."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "etc/hostname").write_text("inside\n")
    (root / "etc/link").symlink_to("/etc/hostname")
    (root / "bin/greet").write_text('#!/bin/sh\nread name < /etc/link; echo "$0 $1 $name $GREETING"\n')
    (root / "bin/greet").chmod(0o755)
    return root


def test_names_lead_under_the_root_first(root: Path, tmp_path: Path) -> None:
    script = "greet one; cat /etc/hostname /bin/greet | wc -l; readlink /etc/link; test -L /etc/link"
    options = ("--root", str(root), "-E", "GREETING=hello", "-E", "PATH=/bin:/usr/bin", "--report", "none")
    outcome = quire(["sh", "-c", script], *options, cwd=tmp_path)
    assert outcome.stdout == b"/bin/greet one inside hello\n3\n/etc/hostname\n"
    assert (outcome.status, outcome.stderr) == (0, b"")


def test_a_sandbox_reads_the_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("secret")
    options = ("--sandbox", "--allow-read", str(root / "etc"), "--root", str(root), "--report", "none")
    outcome = quire(["cat", "/etc/hostname", str(tmp_path / "other")], *options)
    assert outcome.stdout == b"inside\n" and outcome.status == 1


def test_the_later_variable_counts(tmp_path: Path) -> None:
    options = ("-E", "A=1", "-E", "A=2=3", "-E", "LC_ALL=", "--report", "none")
    outcome = quire(["sh", "-c", 'echo "$A|$LC_ALL|"'], *options)
    assert outcome.stdout == b"2=3||\n"


def test_a_text_without_an_interpreter_is_run_by_the_shell(tmp_path: Path) -> None:
    (tmp_path / "bare").write_text('echo "$0 $1"\nexit 3\n')
    (tmp_path / "bare").chmod(0o755)
    outcome = quire(["./bare", "x"], "--report", "none", cwd=tmp_path)
    assert (outcome.stdout, outcome.status) == (b"./bare x\n", 3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("-E", "=x"), "Invalid value for '-E': '=x' sets no variable: give NAME=VALUE, for instance LANG=C"),
        (("-E", "x"), "Invalid value for '-E': 'x' sets no variable: give NAME=VALUE, for instance LANG=C"),
        (("--root", "/no/such"), "Invalid value for '--root': Directory '/no/such' does not exist."),
    ],
)
def test_wrong_options_are_told(options: tuple[str, ...], line: str) -> None:
    outcome = quire(["true"], *options)
    assert outcome.status == 125
    assert outcome.stderr.decode() == f"quire run: {line} (see quire run --help)\n"
