"""A sample of the campaign of signals: see tests/campaigns/moments.py."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "campaigns"))
from moments import campaign


@pytest.mark.programs
def test_signals_at_some_moments() -> None:
    assert sum(campaign(6, 1).values()) == 6
