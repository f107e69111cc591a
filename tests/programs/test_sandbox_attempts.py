"""`--sandbox` is tried: every row of the table of effects has an attempt, and none changes anything outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attempts import ATTEMPTS, attempted_rows, c_program, effect_rows
from limits import PATIENCE
from native import environment
from sandbox_targets import Targets

from quire.guest.syscalls.effects import REFUSED, Effect

pytestmark = pytest.mark.programs

HERE = Path(__file__).parent
#: What each effect answers when it refuses.
ERRORS = {Effect.FILES: "EACCES", Effect.OTHERS: "EPERM", Effect.LOCKS: "ok", Effect.HINT: "ok"}


def test_every_row_of_the_table_of_effects_has_an_attempt() -> None:
    rows, attempted = set(effect_rows()), attempted_rows()
    assert sorted(rows - attempted) == [], "write an attempt for each in tests/programs/attempts_*.py"
    assert sorted(attempted - rows - {"fcntl", "ioctl", "prctl"}) == [], "no such call or command"
    assert len(rows) > 290


def test_what_a_row_refuses_always_is_refused_in_every_attempt_on_it() -> None:
    """So that no attempt is there for the sake of the one above."""
    assert set(ERRORS) >= REFUSED - {Effect.UNKNOWN}
    rows = effect_rows()
    for attempt in ATTEMPTS:
        effect = rows.get(attempt.row)
        if effect in ERRORS:
            assert attempt.outcome == ERRORS[effect], attempt
        elif effect is Effect.UNKNOWN:
            pytest.fail(f"nobody has said what {attempt.row} does")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled program of all attempts."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    folder = tmp_path_factory.mktemp("attempts")
    source = folder / "attempts.c"
    source.write_text(c_program((HERE / "probes" / "attempts.c").read_text()))
    subprocess.run([gcc, "-O1", "-w", source, "-o", folder / "attempts"], check=True, timeout=PATIENCE)
    return folder / "attempts"


def _attempt(way: str, program: Path, targets: Targets, end_by: int) -> "subprocess.CompletedProcess[str]":
    """Run all attempts as a guest in the way that sandbox_start.py knows."""
    pairs = ",".join(f"{source}:{target}" for target, source in targets.inherited.items())
    words = [way, targets.folder, pairs, program, targets.folder, targets.victim.pid, end_by]
    return subprocess.run(
        [sys.executable, "-P", HERE / "sandbox_start.py", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=targets.folder,
        env=environment(),
        pass_fds=tuple(targets.inherited.values()),
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(("way", "end_by"), [("quire", 60), ("alone", 231)])
def test_no_attempt_changes_anything_outside(way: str, end_by: int, program: Path, tmp_path: Path) -> None:
    """With the walls of the host's kernel, and by the table alone."""
    with Targets(tmp_path) as targets:
        before = targets.snapshot()
        done = _attempt(way, program, targets, end_by)
        after = targets.snapshot()
    lines = [line.split() for line in done.stdout.splitlines()]
    results = {int(index): (int(result), int(error)) for index, result, error in lines}
    ends = [index for index, one in enumerate(ATTEMPTS) if one.row in ("exit", "exit_group")]
    assert done.returncode == 7 and len(results) == ends[end_by == 231], done.stderr
    wrong = [
        f"{one.row} | {one.arguments}: {results[index][0]}, {os.strerror(results[index][1])}"
        for index, one in enumerate(ATTEMPTS)
        if index in results and not one.came_of_it(*results[index], alone=way == "alone")
    ]
    changed = [
        f"{name}: {before[name]} became {after[name]}" for name in before if before[name] != after[name]
    ]
    assert not wrong + changed, "\n".join(wrong + changed)
