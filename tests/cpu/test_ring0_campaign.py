"""A sample of the campaign of hostile ring-0 guests: ``python tests/campaigns/ring0.py`` runs more of them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
import ring0


def test_a_sample_of_hostile_guests_ends_without_an_exception() -> None:
    reasons = ring0.campaign(21, 7)
    assert sum(reasons.values()) == 21
    assert reasons["stopped"] > 5
    assert set(reasons) <= {"stopped", "halted", "exited", "interrupted"}


def test_a_guest_is_a_function_of_its_seed() -> None:
    assert ring0.outcome(11, "native") == ring0.outcome(11, "native")
