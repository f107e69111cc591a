"""What tasks cost a guest, beside qemu-user and native runs, turn about in one run: fork, switches, futexes, threads.

Microseconds of processor time of one thing: a run that does many of them less one that does none. A switch is what a
sched_yield costs that finds another process, less one that finds nobody; `pipe` is a byte that is handed over. A child
that executes a program leaves qemu-user, so that its figure for fork is that of a native /bin/true. Targets: fork,
execve and wait of /bin/true 25 ms, a switch 40 us, a futex round trip 125 us (8,000 a second), 1,000 threads 300 MB.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from measure import QUIRE, Timing, interleave, run_timed, table
from workloads import need

#: By name: how often, how many of them that makes each time, the target in us.
_THINGS: dict[str, tuple[int, int, float | None]] = {
    "fork": (40, 1, 25_000.0),
    "yield": (5_000, 2, None),
    "alone": (5_000, 1, None),
    "pipe": (2_000, 2, None),
    "futex": (5_000, 1, 125.0),
}
_SWITCH_TARGET = 40.0
_GUEST = (QUIRE, "run", "--report", "none", "--")
_MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the compiled program."""
    made = tmp_path_factory.mktemp("tasks") / "tasks"
    source = Path(__file__).parent / "guests" / "tasks.c"
    subprocess.run([need("gcc"), "-O2", "-w", "-pthread", source, "-o", made], check=True)
    return str(made)


def _run(prefix: Sequence[str], tasks: str, what: str, count: int) -> Callable[[], Timing]:
    return partial(run_timed, [*prefix, tasks, what, str(count)])


def test_what_one_costs(tasks: str, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    subjects: dict[str, Callable[[], Timing]] = {}
    for what, (count, _, _) in _THINGS.items():
        for name, prefix in (("native", ()), ("qemu-user", (need("qemu-x86_64"),)), ("quire", _GUEST)):
            subjects[f"{what} {name}"] = _run(prefix, tasks, what, count)
            subjects[f"{what} {name}, none"] = _run(prefix, tasks, what, 0)
    taken: dict[str, Timing] = benchmark.pedantic(
        interleave, (subjects, dict.fromkeys(subjects, 3 * rounds)), rounds=1
    )
    shown = table("one of each, us of processor time", "", "native", "qemu-user", "quire", "target")
    found: dict[str, list[float]] = {}
    for what, (count, parts, _) in _THINGS.items():
        found[what] = [
            max(taken[f"{what} {name}"].cpu - taken[f"{what} {name}, none"].cpu, 0.0) / (count * parts) * 1e6
            for name in ("native", "qemu-user", "quire")
        ]
    found["switch"] = [max(one - two, 0.0) for one, two in zip(found["yield"], found["alone"], strict=True)]
    targets = {what: target for what, (_, _, target) in _THINGS.items()} | {"switch": _SWITCH_TARGET}
    for what, each in found.items():
        target = targets[what]
        verdict = "" if target is None else f"{target:,.0f}: {'reached' if each[-1] <= target else 'MISSED'}"
        shown.add_row(what, *(f"{one:,.0f}" for one in each), verdict)
    benchmark.extra_info["cpu_seconds"] = {name: timing.cpu for name, timing in taken.items()}


def test_memory_of_threads(tasks: str, benchmark) -> None:  # type: ignore[no-untyped-def]
    """How much more memory a run takes with 1,000 threads than with none."""

    def most(count: int) -> int:
        process = subprocess.Popen([*_GUEST, tasks, "threads", str(count)])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss * 1024

    none, many = benchmark.pedantic(lambda: (most(0), most(1000)), rounds=1)
    verdict = "reached" if many - none <= 300 * _MEGABYTE else "MISSED"
    shown = table("1,000 threads", "", "MB", "target")
    shown.add_row("more than with none", f"{(many - none) / _MEGABYTE:.0f}", f"300: {verdict}")
    benchmark.extra_info["bytes"] = many - none
