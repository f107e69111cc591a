"""How the benchmarks run commands and show figures: processes timed with their processor time, and tables.

Seconds of processor time (user and system, of the process and its threads) decide ratios: other processes on a
shared machine lengthen wall time at random, processor time much less.
"""

import os
import statistics
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

QUIRE = str(Path(sysconfig.get_path("scripts")) / "quire")
TABLES: list[Table] = []


@dataclass(frozen=True)
class Timing:
    """One run, in seconds."""

    wall: float
    cpu: float


def run_timed(argv: Sequence[str], stdin: bytes = b"", cwd: Path | None = None,
              env: Mapping[str, str] | None = None) -> Timing:  # fmt: skip
    """Run a command with its output thrown away, and time it. Raises RuntimeError if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    assert process.stdin is not None and process.stderr is not None
    with process.stdin:
        process.stdin.write(stdin)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"{' '.join(argv)} ended with {process.returncode}: {said.decode(errors='replace')}"
        )
    return Timing(wall, usage.ru_utime + usage.ru_stime)


def medians(samples: Sequence[Timing]) -> Timing:
    """Return the median wall and processor times."""
    return Timing(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
    )


def interleave(subjects: Mapping[str, Callable[[], Timing]], rounds: Mapping[str, int]) -> dict[str, Timing]:
    """Run each subject as often as `rounds` says, turn about, so that a change of load meets all of them."""
    samples: dict[str, list[Timing]] = {name: [] for name in subjects}
    for turn in range(max(rounds.values())):
        for name, subject in subjects.items():
            if turn < rounds[name]:
                samples[name].append(subject())
    return {name: medians(taken) for name, taken in samples.items()}


def table(title: str, *columns: str) -> Table:
    """Return a table that is printed behind the run; the first column is text, the others are figures."""
    made = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    TABLES.append(made)
    return made


def print_tables() -> None:
    """Print all tables and forget them."""
    console = Console(width=110)
    for made in TABLES:
        console.print()
        console.print(made)
    TABLES.clear()
