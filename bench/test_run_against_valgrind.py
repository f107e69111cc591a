"""``quire run`` beside native runs and beside valgrind's tools, on the same programs, in one run, turn about.

Targets by program are below; full is to be at least 10 times as fast as lackey that writes its trace of the same input
to the null device.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from measure import QUIRE, Timing, interleave, run_timed, table
from workloads import Workload, gzip, need, python_loop, sqlite

_EXITS, _FULL = "quire --detail exits", "quire --detail full"
_NONE, _CACHEGRIND, _LACKEY, _TRACE = "valgrind none", "cachegrind", "lackey, counts", "lackey, tracing"
#: Subjects that run once: they take the better part of a minute.
_ONCE = (_LACKEY, _TRACE)
_NATIVE = "native"
#: By program: subject, beside which peer, at most how many times its time.
_TARGETS = {
    "gzip": ((_EXITS, _NONE, 2.0), (_FULL, _CACHEGRIND, 0.75), (_FULL, _NATIVE, 9.0), (_FULL, _LACKEY, None)),
    "python": ((_EXITS, _NONE, 1.5), (_FULL, _CACHEGRIND, 0.9), (_FULL, _LACKEY, None)),
    "sqlite": ((_EXITS, _NONE, None), (_FULL, _CACHEGRIND, 1.3), (_FULL, _LACKEY, None)),
}


def _command(workload: Workload, prefix: tuple[str, ...]) -> Callable[[], Timing]:
    def once() -> Timing:
        workload.prepare()
        return run_timed([*prefix, *workload.argv], workload.stdin, workload.cwd)

    return once


def _quire(detail: str) -> tuple[str, ...]:
    return (QUIRE, "run", "--detail", detail, "--report", "none", "--")


def _valgrind(tool: str, *options: str) -> tuple[str, ...]:
    return (need("valgrind"), f"--tool={tool}", "--log-file=/dev/null", *options)


def _subjects(workload: Workload) -> dict[str, Callable[[], Timing]]:
    cachegrind = _valgrind("cachegrind", "--cachegrind-out-file=/dev/null", "--cache-sim=yes")
    prefixes = {
        _NATIVE: (),
        _EXITS: _quire("exits"),
        _FULL: _quire("full"),
        _NONE: _valgrind("none"),
        _CACHEGRIND: cachegrind,
        _LACKEY: _valgrind("lackey", "--basic-counts=yes"),
    }
    return {name: _command(workload, prefix) for name, prefix in prefixes.items()}


def _show(title: str, taken: dict[str, Timing], targets: tuple[tuple[str, str, float | None], ...]) -> None:
    shown = table(title, "", "wall s", "CPU s", "x native", "target")
    for name, timing in taken.items():
        slower = f"{timing.cpu / taken['native'].cpu:.1f}" if "native" in taken else ""
        shown.add_row(name, f"{timing.wall:.2f}", f"{timing.cpu:.2f}", slower, "")
    for subject, peer, limit in targets:
        ratio = taken[subject].cpu / taken[peer].cpu
        words = "no target" if limit is None else f"at most {limit:g} times"
        verdict = "" if limit is None else (": reached" if ratio <= limit else ": MISSED")
        shown.add_row(f"{subject} / {peer}", "", f"{ratio:.2f}", "", words + verdict)


def _store(benchmark, taken: dict[str, Timing]) -> None:  # type: ignore[no-untyped-def]
    benchmark.extra_info["wall_seconds"] = {name: timing.wall for name, timing in taken.items()}
    benchmark.extra_info["cpu_seconds"] = {name: timing.cpu for name, timing in taken.items()}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all workloads."""
    return tmp_path_factory.mktemp("workloads")


@pytest.mark.parametrize("which", ["gzip", "python", "sqlite"])
def test_program(which: str, folder: Path, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    make = {
        "gzip": partial(gzip, folder, 1_000_000 if small else 16_000_000),
        "python": partial(python_loop, folder, small),
        "sqlite": partial(sqlite, folder, small),
    }
    workload = make[which]()
    subjects = _subjects(workload)
    subjects[_EXITS]()  # compile kernels, fill the page cache
    turns = {name: 1 if name in _ONCE else rounds for name in subjects}
    taken = benchmark.pedantic(interleave, (subjects, turns), rounds=1)
    _store(benchmark, taken)
    _show(f"{workload.name}: median of {rounds}, lackey once", taken, _TARGETS[which])


def test_tracing(folder: Path, small: bool, benchmark) -> None:  # type: ignore[no-untyped-def]
    workload = gzip(folder, 100_000 if small else 1_000_000)
    subjects = {
        _FULL: _command(workload, _quire("full")),
        _TRACE: _command(workload, _valgrind("lackey", "--trace-mem=yes", "--basic-counts=no")),
    }
    taken = benchmark.pedantic(interleave, (subjects, dict.fromkeys(subjects, 1)), rounds=1)
    _store(benchmark, taken)
    _show(f"{workload.name}, once each", taken, ((_FULL, _TRACE, 0.1),))
