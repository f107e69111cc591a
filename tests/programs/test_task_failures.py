"""A sample of the campaign of allocations that fail: ``python tests/campaigns/task_failures.py`` runs more of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE

HERE = Path(__file__).parent
CAMPAIGN = HERE.parent / "campaigns" / "task_failures.py"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with threads, forks and an exec."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("this machine has no gcc")
    made = tmp_path_factory.mktemp("failures") / "tree"
    source = HERE / "probes" / "tasks_failures.c"
    subprocess.run([gcc, "-O1", "-pthread", source, "-o", made], check=True, timeout=PATIENCE)
    return made


@pytest.mark.parametrize(("mmu", "first", "step"), [("ept", 46, 71), ("shadow", 47, 97), ("native", 20, 61)])
def test_what_fails_leaves_nothing_that_is_nobodys(mmu: str, first: int, step: int, program: Path) -> None:
    command = [sys.executable, CAMPAIGN, mmu, program, str(first), str(step)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("wrong: {}\n")
    assert "'status 0'" in run.stdout
