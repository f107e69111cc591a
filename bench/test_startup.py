"""How long a user waits before anything happens: ``quire --help``, a warm run, and the first run ever.

Targets (issue 2): ``quire run -- true`` with a warm kernel cache 1.5 s, ``quire --help`` 0.2 s, all kernels cold 15 s.
"""

from pathlib import Path

from measure import QUIRE, Timing, interleave, run_timed, table


def test_startup(tmp_path: Path, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    run = [QUIRE, "run", "--report", "none", "--", "true"]
    full = [QUIRE, "run", "--detail", "full", "--report", "none", "--", "true"]
    run_timed(run)
    run_timed(full)
    cold = {"NUMBA_CACHE_DIR": str(tmp_path)}
    subjects = {
        "quire --help": lambda: run_timed([QUIRE, "--help"]),
        "quire run -- true, warm": lambda: run_timed(run),
        "the same with --detail full": lambda: run_timed(full),
        "quire run -- true, all kernels cold": lambda: run_timed(full, env=cold),
    }
    targets = (0.2, 1.5, 1.5, 15.0)
    turns = dict(zip(subjects, (5 * rounds, 5 * rounds, 5 * rounds, 1), strict=True))
    taken: dict[str, Timing] = benchmark.pedantic(interleave, (subjects, turns), rounds=1)
    shown = table(f"start-up: median of {5 * rounds}, cold once", "", "wall s", "CPU s", "target s", "")
    for (name, timing), target in zip(taken.items(), targets, strict=True):
        verdict = "reached" if timing.wall <= target else "MISSED"
        shown.add_row(name, f"{timing.wall:.2f}", f"{timing.cpu:.2f}", f"{target:.1f}", verdict)
    benchmark.extra_info["wall_seconds"] = {name: timing.wall for name, timing in taken.items()}
