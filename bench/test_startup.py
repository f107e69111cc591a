"""How long a user waits: ``quire --help``, a warm run, the first run of a wheel, and one with all kernels cold.

Targets: ``quire run -- true`` at most 4 times ``python -c 'import numpy'`` in processor time, aim 3.5; a
first full run from a wheel at most 1.3 times the second; ``quire --help`` 0.2 s of wall time, all kernels cold 15 s.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from measure import QUIRE, Timing, interleave, run_timed, table

import quire

TRUE = ["run", "--report", "none", "--", "true"]
FULL = ["run", "--detail", "full", "--report", "none", "--", "true"]


@pytest.fixture(autouse=True)
def bytecode_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each process would compile all of Quire's Python anew."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


def test_startup(tmp_path: Path, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    run, full, numpy = [QUIRE, *TRUE], [QUIRE, *FULL], [sys.executable, "-c", "import numpy"]
    for command in (run, full, numpy):
        run_timed(command)
    cold = {"QUIRE_CACHE_DIR": str(tmp_path)}
    subjects = {
        "python -c 'import numpy'": lambda: run_timed(numpy),
        "quire --help": lambda: run_timed([QUIRE, "--help"]),
        "quire run -- true": lambda: run_timed(run),
        "the same with --detail full": lambda: run_timed(full),
        "all kernels cold, in parallel": lambda: run_timed(full, env=cold),
    }
    turns = dict.fromkeys(subjects, 5 * rounds) | {"all kernels cold, in parallel": 1}
    taken: dict[str, Timing] = benchmark.pedantic(interleave, (subjects, turns), rounds=1)
    base = taken["python -c 'import numpy'"].cpu
    targets = {"quire run -- true": "4, aim 3.5"}
    shown = table(
        f"start-up: median of {5 * rounds}, cold once",
        *("", "wall s", "CPU s", "CPU / import numpy", "target"),
    )
    for name, timing in taken.items():
        shown.add_row(
            name, f"{timing.wall:.2f}", f"{timing.cpu:.2f}", f"{timing.cpu / base:.2f}", targets.get(name, "")
        )
    benchmark.extra_info["cpu_seconds"] = {name: timing.cpu for name, timing in taken.items()}


def test_first_run_of_a_wheel(tmp_path: Path, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    """What a newcomer meets, whose pip has just compiled the modules: the first full run beside the second."""
    root = Path(quire.__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    subprocess.run(build, cwd=root, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (tmp_path / "wheel").iterdir()

    def installed(number: int) -> dict[str, str]:
        place = tmp_path / str(number)
        with zipfile.ZipFile(wheel) as content:
            content.extractall(place)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(place)], check=True)
        return {"PYTHONPATH": str(place), "QUIRE_CACHE_DIR": str(place / "cache")}

    places = [installed(number) for number in range(3 * rounds)]
    code = "import sys; from quire.cli import command_line; sys.argv[0] = 'quire'; command_line()"
    command = [sys.executable, "-c", code, *FULL]

    def pairs() -> dict[str, Timing]:
        left = {"first": list(places), "second": list(places)}
        return interleave(
            {name: lambda name=name: run_timed(command, env=left[name].pop(0)) for name in left},  # type: ignore[misc]
            dict.fromkeys(left, len(places)),
        )

    taken: dict[str, Timing] = benchmark.pedantic(pairs, rounds=1)
    assert not any(os.path.exists(one["QUIRE_CACHE_DIR"]) for one in places), "something was compiled"
    shown = table(f"a wheel's first and second run: median of {len(places)}", "", "wall s", "CPU s", "target")
    for name, timing in taken.items():
        shown.add_row(name, f"{timing.wall:.2f}", f"{timing.cpu:.2f}", "")
    ratio = taken["first"].wall / taken["second"].wall
    shown.add_row("first / second", f"{ratio:.2f}", f"{taken['first'].cpu / taken['second'].cpu:.2f}", "1.3")
