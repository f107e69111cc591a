"""A sample of the campaign of wild system calls: ``python tests/campaigns/syscalls.py`` makes more of them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
import syscalls


def test_a_sample_of_wild_calls_is_answered_and_changes_nothing_outside() -> None:
    answers = syscalls.campaign(2 * syscalls.BATCH, 7)
    assert sum(answers.values()) == 2 * syscalls.BATCH
    assert set(answers) <= {"error", "result", "restart", "no result", "waits"}
    assert answers["result"] > 50
