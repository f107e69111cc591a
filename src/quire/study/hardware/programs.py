"""The programs, natively: compiled here, run with 4 KiB and with 2 MiB pages, their accesses timed by themselves."""

import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quire.errors import MisuseError, did_you_mean
from quire.study.runner import RunFailed

__all__ = [
    "LARGE",
    "PROGRAMS",
    "SMALL",
    "SOURCE",
    "Program",
    "Timing",
    "compile_programs",
    "cycle_ns",
    "parse_programs",
    "run_program",
    "time_programs",
]

#: The programs: one C file, of which each is a case.
SOURCE = Path(__file__).with_name("guests.c")
#: Advice for the memory of a program: pages of 4 KiB, or of 2 MiB.
SMALL, LARGE = "SMALL", "LARGE"
_COMPILERS = ("cc", "gcc", "clang")
_CYCLES = 50_000_000
_CLOCK = "cycle"


@dataclass(frozen=True, slots=True)
class Program:
    """One of them. `independent` says that its accesses do not wait for each other, so that their walks overlap."""

    name: str
    title: str
    independent: bool


PROGRAMS: Sequence[Program] = (
    Program("gups", "random updates", True),
    Program("chase", "pointer chase", False),
    Program("btree", "B-tree look-ups", False),
    Program("bfs", "breadth-first search", True),
    Program("join", "hash join", True),
)


def parse_programs(text: str) -> list[Program]:
    """Return the programs of a list such as ``gups,chase``, in the order of PROGRAMS. Raises MisuseError."""
    names = [program.name for program in PROGRAMS]
    asked = [part.strip() for part in text.split(",")]
    for name in asked:
        if name not in names:
            raise MisuseError(
                f"No program is called {name!r}{did_you_mean(name, names)}: there is {', '.join(names)}"
            )
    return [program for program in PROGRAMS if program.name in asked]


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds an access of a program with each kind of page, medians; the share of its memory that really was in
    huge pages, with each.
    """

    small_ns: float
    large_ns: float
    small_huge: float
    large_huge: float

    @property
    def extra_ns(self) -> float:
        """What an access costs more with 4 KiB pages than with 2 MiB."""
        return self.small_ns - self.large_ns


def compile_programs(folder: Path) -> Path:
    """Return the programs' file, made in `folder`. Raises MisuseError without a compiler, or if it fails."""
    compiler = next((found for found in map(shutil.which, _COMPILERS) if found is not None), None)
    if compiler is None:
        raise MisuseError(
            f"There is no C compiler here, and the programs are C: install one of {', '.join(_COMPILERS)}"
        )
    made = folder / "guests"
    done = subprocess.run(
        [compiler, "-O2", "-w", SOURCE, "-o", made], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MisuseError(f"{compiler} cannot compile {SOURCE.name}: {done.stderr.strip().splitlines()[-1:]}")
    return made


def cycle_ns(made: Path) -> float:
    """Return how many nanoseconds a cycle of this processor takes: the least of three runs of dependent additions."""
    return min(run_program(made, _CLOCK, 4096, _CYCLES, SMALL)[0] for _ in range(3))


def time_programs(
    made: Path,
    programs: Sequence[Program],
    size: int,
    accesses: int,
    runs: int,
    done: Callable[[str], object],
) -> dict[str, Timing]:
    """Return the timing of each program: medians of `runs` runs with each kind of page, by turns."""
    ran: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(runs):
        for program in programs:
            for pages in (SMALL, LARGE):
                ran.setdefault((program.name, pages), []).append(
                    run_program(made, program.name, size, accesses, pages)
                )
        done(f"native, run {number + 1}")
    return {
        program.name: Timing(
            *(statistics.median(ns for ns, _ in ran[program.name, pages]) for pages in (SMALL, LARGE)),
            *(statistics.median(huge for _, huge in ran[program.name, pages]) for pages in (SMALL, LARGE)),
        )
        for program in programs
    }


def run_program(made: Path, name: str, size: int, accesses: int, pages: str) -> tuple[float, float]:
    """Run a program; return nanoseconds an access, and the share of its memory in huge pages.

    Raises RunFailed if it fails.
    """
    command = [str(made), name, str(size), str(accesses), pages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(done.returncode, f"{name} failed natively: {done.stderr.strip()}")
    took, count, huge, *_ = map(int, done.stdout.split())
    return took / count, huge * 1024 / size
