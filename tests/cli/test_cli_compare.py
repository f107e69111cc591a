"""``quire compare`` as a user meets it: examples, output, exit status, files, and what is refused."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import quire, refused
from limits import PATIENCE
from native import loaded_folder, loaded_quire

from quire.machine import MMUS
from quire.report import render_compare_table

pytestmark = pytest.mark.programs


def run(folder: Path, line: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [*loaded_quire(), "compare", *shlex.split(line)]
    return subprocess.run(argv, cwd=folder, input=data, capture_output=True, timeout=PATIENCE, check=False)


def test_help_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of the help text runs and ends with a verdict; the one with a record gives it again to the byte."""
    monkeypatch.setattr(sys, "executable", f"{loaded_folder()}/quire")
    text = quire(tmp_path, "compare", "--help").stdout
    examples = re.findall(r"^    quire compare (.*)$", text, re.MULTILINE)
    assert len(examples) >= 4
    assert all(len(line) <= 100 for line in text.splitlines())
    for line in examples:
        outcome = quire(tmp_path, "compare", *shlex.split(line))
        assert outcome.status == 0, (line, outcome)
        if "--json" in line:
            assert json.loads((tmp_path / "true.json").read_text())["rows"][0]["mmu"] == "native"
        else:
            assert "what the model leaves out" in outcome.stderr, line
            assert "NOT THE SAME" not in outcome.stderr, line
        for name in re.findall(r"true\.\w+", line):
            assert (tmp_path / name).stat().st_size > 100


def test_input_output_status_and_files(tmp_path: Path) -> None:
    """One program, its input replayed: the record adds up, and the table says the same."""
    code = shlex.quote('read a; read b; echo "$b$a"; exit 7')
    done = run(tmp_path, f"--json -o a.json --plot a.svg -- sh -c {code}", b"abc\nde\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"deabc\n", b"")
    record = json.loads((tmp_path / "a.json").read_text())
    table = io.StringIO()
    render_compare_table(record, table, bound=True)
    text = table.getvalue()
    assert all(len(one) <= 110 for one in text.splitlines())
    assert "upper bound: no walk caches, every walk makes all its references" in text
    rows = record["rows"]
    assert [row["mmu"] for row in rows] == list(MMUS)
    assert record["differences"] == []
    assert {row["outcome"]["status"] for row in rows} == {7}
    assert {row["instructions"] for row in rows} == {rows[0]["instructions"]}
    by_name = {row["mmu"]: row for row in rows}
    for mmu, whole in (("native", 4), ("ept", 24), ("shadow", 4)):
        row = by_name[mmu]
        assert row["bound"]["references_per_walk"] == whole
        assert 1 <= row["walks"]["references_per_walk"] < whole
        assert row["bound"]["cycles"] > row["cycles"]["total"]
    assert by_name["ept"]["overhead"]["over_native"] > 0.1
    assert record["verdicts"][0]["winner"] != "native 4K"
    assert record["verdicts"][0]["sentence"] in " ".join(text.split())
    for row in rows:
        total = sum(
            sum(part.values()) if isinstance(part, dict) else part
            for name, part in row["cycles"].items()
            if name != "total"
        )
        assert row["cycles"]["total"] == total


def test_a_program_that_computes_otherwise_is_reported(tmp_path: Path) -> None:
    """It keeps a line in a file, so that each run reads more than the one before."""
    (tmp_path / "log").write_text("x\n")
    code = shlex.quote('read a < log; echo "$a"; echo "x$a" > log')
    done = run(tmp_path, f"--mmu native,ept -- sh -c {code}")
    assert done.stdout == b"x\n"
    assert b"NOT THE SAME: ept 4K/4K wrote other bytes than native 4K: 3 and 2 of them" in done.stderr


def test_what_is_refused(tmp_path: Path) -> None:
    for line, said in (
        ("--pages 4K/3K -- true", "'4K/3K' is no pair of pages: give GUEST/HOST"),
        ("--mmu nativ -- true", "No Mmu is called 'nativ' (did you mean 'native'?)"),
        ("--costs skylake -- true", "No cost profile is called 'skylake' (did you mean 'skylake-x'?)"),
        (
            "--profile zen4 --costs skylake-x -- true",
            "Costs skylake-x are for skylake-x, architecture, ideal, none, not for profile zen4: leave --costs out for "
            "zen4's own, or give --profile skylake-x",
        ),
        ("--profile zen4,zen4x -- true", "No CPU profile is called 'zen4x' (did you mean 'zen4'?)"),
        ("--memory 1K -- true", "give at least 4 MiB"),
        ("--remote-share nan -- true", "A share of remote memory of nan does not exist: give 0 to 1"),
        ("--remote-share 2 -- true", "2.0 is not in the range 0<=x<=1"),
        ("--jobs 0 -- true", "0 is not in the range 1<=x<=64"),
        ("--plot - -o - -- true", "--output and --plot are all -, and stdout takes one"),
        ("--relative -- true", "--relative says nothing without --plot: give both, or neither"),
        ("--plot none/a.svg -- true", "cannot write --plot to 'none/a.svg': No such file or directory"),
    ):
        assert said in refused(tmp_path, "compare", *shlex.split(line))
    (tmp_path / "bad.toml").write_text("name = 1")
    assert "events is missing" in refused(tmp_path, "compare", "--costs", "bad.toml", "--", "true")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """A module of the folder is not taken for Quire."""
    (tmp_path / "quire.py").write_text("raise SystemExit(99)")
    argv = [Path(sys.executable).parent / "quire", "compare", "--", "no-such-program-of-quire"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 127
    assert done.stderr.splitlines()[-1].startswith(b"quire compare: native 4K could not be run")


def test_output_that_nobody_takes(tmp_path: Path) -> None:
    """The program would write for ever; its runs end when the reader leaves, or the disk is full."""
    argv = [sys.executable, "-m", "quire", "compare", "--mmu", "native", "--", "yes"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141
    assert b"nobody reads what the program writes, no comparison was made" in said
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
    assert done.returncode == 125
    assert b"the program's output could not be kept: No space left on device\n" in done.stderr
