"""A sample of the campaign of hostile guests of `quire boot`: ``python tests/campaigns/machines.py`` runs more."""

import sys
from pathlib import Path

import pytest
from limits import PATIENCE

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
from machines import campaign

pytestmark = pytest.mark.timeout(PATIENCE)


@pytest.mark.parametrize("seed", [0, 1000])
def test_no_guest_makes_quire_raise(seed: int) -> None:
    assert sum(campaign(12, seed).values()) == 12
