"""``quire run --working-set``: what is sampled of a real program, what is refused, and that nothing else changes."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import quire
from limits import PATIENCE
from native import loaded_quire, python

from quire.report.working_set import sparkline, working_set_rows

PROGRAM = (
    python(),
    "-S",
    "-c",
    "x = bytearray(1 << 20)\nfor i in range(30000): x[i * 31 % len(x)] = 1",
)


def test_a_program_is_sampled(tmp_path: Path) -> None:
    records = []
    for more in (("--working-set", "10ms"), ()):
        argv = ("run", *more, "--report", "json", "-o", "report.json", "--", *PROGRAM)
        done = subprocess.run(
            [*loaded_quire(), *argv],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        records.append(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")))
    sampled, plain = records
    found = sampled.pop("working_set")
    assert plain.pop("working_set") is None
    assert found["period"] == 0.01
    samples = found["samples"]
    assert len(samples) >= 2
    assert [one["time"] for one in samples] == sorted(one["time"] for one in samples)
    assert max(one["bytes"] for one in samples) == found["maximum"] <= sampled["memory"]["host"]["resident"]
    assert found["mean"] == round(sum(one["bytes"] for one in samples) / len(samples))
    assert sum(found["idle"].values()) == sampled["memory"]["host"]["mapped"]
    assert all(int(size) % 4096 == 0 for size in found["idle"].values())
    for record in records:
        del record["time"], record["walks"]  # a flush costs walks
        for one in (*record["vcpus"], *record["tasks"]["processes"]):
            del one["walks"]
    assert sampled == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--mmu", "shadow", "--working-set", "1s"),
            "--working-set reads accessed flags of guest memory, which --mmu shadow does not keep: give --mmu ept, or "
            "leave it out",
        ),
        (
            ("--working-set", "fast"),
            "Invalid value for '--working-set': 'fast' is no time: give a number with ms or s, as in 100ms",
        ),
        (
            ("--working-set", "0.5ms"),
            "Invalid value for '--working-set': 0.5ms is out of bounds: give 1ms to 3600s",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    outcome = quire(tmp_path, "run", *options, "--", "true")
    assert outcome.status == 125
    assert outcome.stderr == f"quire run: {message} (see quire run --help)\n"


def test_a_line_has_the_shape_of_its_values() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 1, 2, 4, 8]) == "▁▂▃▅█"
    assert len(sparkline(list(range(1000)))) == 40


def test_rows_say_that_the_clock_decides() -> None:
    found = {
        "period": 0.1,
        "samples": [{"time": 0.1, "bytes": 4096}, {"time": 0.25, "bytes": 8192}],
        "maximum": 8192,
        "mean": 6144,
        "idle": {"0": 8192, "1": 4096},
    }
    assert working_set_rows(found) == [
        ("samples", "2", "every 100 ms of wall time: another run has others"),
        ("maximum", "8 KiB", "accessed between two samples"),
        ("mean", "6 KiB", ""),
        ("over time", "0.250 s", "▅█"),
        ("used in the last sample", "8 KiB", ""),
        ("idle for 1 samples and more", "4 KiB", ""),
    ]


COUNTING = """
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    unsigned long *q = calloc(1 << 20, 8), x = 1, s = 0, n = 1500000;
    for (unsigned long i = 0; i < n; i++) {
        x = x * 6364136223846793005UL + 1442695040888963407UL;
        q[x >> 44]++;
    }
    for (int i = 0; i < 1 << 20; i++) s += q[i];
    printf("%ld\\n", (long)(s - n));
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_no_instruction_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "count.c").write_text(COUNTING)
    subprocess.run(["gcc", "-O1", "-o", "count", "count.c"], cwd=tmp_path, timeout=PATIENCE, check=True)
    argv = ("run", "--working-set", "1ms", "--report", "none", "--", "./count")
    done = subprocess.run(
        [*loaded_quire(), *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
