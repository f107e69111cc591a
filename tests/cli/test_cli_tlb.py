"""`quire tlb`: what is shown at the end and at breakpoints, filters, files, refusals, and its help's examples."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import quire, refused
from limits import PATIENCE

from quire.guest.breakpoint import AtAddress, AtSyscall, parse_address, parse_syscall
from quire.guest.load.launch import prepare
from quire.report.tlb import render_tlb

pytestmark = pytest.mark.programs

SOURCE = """
__attribute__((noinline)) int triple(int n) { __asm__ volatile("inside: nop"); return 3 * n; }
int main(int count, char **words) { return triple(count) + triple(4); }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a PIE that ends with 15."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(SOURCE)
    subprocess.run([gcc, "-O1", "-pie", "-o", "main", "main.c"], cwd=folder, check=True, timeout=PATIENCE)
    return str(folder / "main")


def record(folder: Path, *argv: str, status: int = 0) -> dict[str, Any]:
    """Run ``quire tlb`` and return its record."""
    outcome = quire(folder, "tlb", "--json", "-o", "record.json", *argv)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (status, "", ""), outcome
    return json.loads((folder / "record.json").read_text())


def apart(folder: Path, *argv: str) -> int:
    """Run ``quire ARGV`` in a copy of this process, because a guest may close stdout and stderr; return its status."""
    child = os.fork()
    if not child:
        try:
            streams = os.dup(1), os.dup(2)
            outcome = quire(folder, *argv)
            for stream, text in zip(streams, (outcome.stdout, outcome.stderr), strict=True):
                os.write(stream, text.encode())
            os._exit(outcome.status)
        finally:
            os._exit(99)  # whatever it raised: this is no second pytest
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_symbol_is_where_the_run_ends(program: str, tmp_path: Path) -> None:
    """In the middle of a block: the page of the symbol is the one used last, the stack was just pushed to."""
    found = record(tmp_path, "--at", "inside", "--sort", "age", "--limit", "8", "--", program)
    assert found["ended"] == {"at": "before inside", "reached": True, "status": 0}
    at = parse_address("inside", prepare([program], None, "/"))
    assert isinstance(at, AtAddress) and at.in_file
    code = next(entry for entry in found["entries"] if entry["structure"] == "L1I 4K")
    assert code["age"] <= 2 and code["address"] >> 40 == 0x55
    # The same place as an address: the program moves by whole pages, the same way for a seed.
    moved = code["address"] + (at.address & 0xFFF)
    again = record(tmp_path, "--at", f"{moved:#x}", "--sort", "age", "--limit", "8", "--", program)
    assert again["ended"] == {"at": f"before {moved:#x}", "reached": True, "status": 0}
    assert again["entries"] == found["entries"] and again["structures"] == found["structures"]
    assert [entry["age"] for entry in found["entries"]] == sorted(entry["age"] for entry in found["entries"])


def test_the_end_and_a_system_call_that_does_not_come(program: str, tmp_path: Path) -> None:
    end = record(tmp_path, "--", program, status=15)
    assert end["ended"] == {"at": "the end of the program", "reached": True, "status": 15}
    assert end["matching"] == len(end["entries"]) == sum(one["used"] for one in end["structures"])
    never = record(tmp_path, "--at-syscall", "exit_group:2", "--", program, status=15)
    assert never["ended"] == {"at": "before exit_group, call 2", "reached": False, "status": 15}
    assert never["structures"] == end["structures"]
    before = record(tmp_path, "--at-syscall", "exit_group", "--", program)
    assert before["structures"] == end["structures"]
    shown = io.StringIO()
    render_tlb(before, shown)
    title, _, table = shown.getvalue().partition("  structure ")
    assert title.split() == [
        *("quire", "tlb:", program, "under", "ept,", "4KiB", "x", "4KiB", "pages,", "skylake-x;"),
        *("before", "exit_group"),
    ]
    assert max(map(len, table.splitlines())) <= 100


def test_filters_choose_entries_and_nothing_else(tmp_path: Path) -> None:
    found = record(tmp_path, "--class", "guest-physical", "--size", "2M", "--ep4ta", "0x84000", "--", "true")
    assert {(entry["class"], entry["kind"]) for entry in found["entries"]} == {("guest-physical", "PDE")}
    assert sum(one["used"] for one in found["structures"]) > found["matching"] == len(found["entries"])
    assert not record(tmp_path, "--no-vpid", "--global", "--mmu", "native", "--", "true")["entries"]


def test_help_examples(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What the guest writes is on stdout, the table on stderr or where -o says."""
    text = quire(tmp_path, "tlb", "--help").stdout
    examples = re.findall(r"^    quire (tlb .*)$", text, re.MULTILINE)
    assert len(examples) == 4 and all(len(line) <= 100 for line in text.splitlines())
    found = []
    for line in examples:
        assert apart(tmp_path, *shlex.split(line)) == 0
        found.append(capfd.readouterr())
    first, listing, native, zen = found
    assert first.out == "" and first.err.startswith(
        "quire tlb: true under ept, 4KiB x 4KiB pages, skylake-x; "
    )
    assert listing.err == "" and "etc\n" in listing.out
    assert (tmp_path / "tlb.txt").read_text().startswith("quire tlb: ls under ept")
    assert native.err == "" and json.loads((tmp_path / "tlb.json").read_text())["config"]["mmu"] == "native"
    assert "etc\n" in zen.out and zen.err.count("not listed") == 1
    assert (tmp_path / "sets.svg").read_bytes().startswith(b"<?xml")


def test_places(program: str) -> None:
    found = prepare([program], None, "/")
    assert parse_address("0x40_1000", found) == AtAddress("before 0x40_1000", 0x40_1000, False)
    assert parse_syscall("write:3") == AtSyscall("before write, call 3", "write", 3)
    assert parse_syscall("write") == AtSyscall("before write", "write", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "x", "--at-syscall", "write"], "--at and --at-syscall both say where to end: give one"),
        (["-o", "-", "--heat-map", "-"],
         "--output and --heat-map are all -, and stdout takes one: give files for the others"),
        (["--profile", "ideal", "--structure", "L3"], "No TLB or walk cache is called 'L3': there is TLB"),
        (["--at-syscall", "writ"], "Linux has no system call 'writ' (did you mean 'write'?)"),
        (["--at-syscall", "write:0"],
         "'write:0' is no system call: give a name, or NAME:N for the N-th, write:3 for instance"),
        (["--at", "12z"], "'12z' is not a number: give 0x1f, 0b11111 or 31"),
    ],
)  # fmt: skip
def test_refusals(options: list[str], message: str, tmp_path: Path) -> None:
    assert refused(tmp_path, "tlb", *options, "--", "true") == f"quire tlb: {message} (see quire tlb --help)"


def test_a_symbol_that_is_not_there(program: str, tmp_path: Path) -> None:
    assert refused(tmp_path, "tlb", "--at", "tripl", "--", program) == (
        f"quire tlb: {program} has no symbol 'tripl' (did you mean 'triple'?); give one that it has, or an address "
        "(see quire tlb --help)"
    )
    assert refused(tmp_path, "tlb", "-o", "none/x", "--", "true") == (
        "quire tlb: cannot write the report to 'none/x': No such file or directory; choose another -o FILE"
    )
    assert quire(tmp_path, "tlb", "--", "no-such-program").status == 127
