"""Recorded VM entries of Bochs: they agree but for its known faults, and each of those explains some of them."""

from collections import Counter

import pytest

from quire.testing import Setting, Tally
from quire.testing.suites import bochs_entry
from quire.testing.suites.bochs_entry import DEVIATIONS, SUITES, WRAPPED_COUNT, Recording
from quire.vcpu.checks import RULES

# Recorded attempts are replayed once for all tests here: in one worker.
pytestmark = pytest.mark.xdist_group("bochs-entry")
CASES = {case.name: case for case in SUITES[0].cases}
NAMES = {one.name for one in DEVIATIONS} | {WRAPPED_COUNT}


@pytest.fixture(scope="session")
def whole() -> dict[str, Tally]:
    """Every recorded attempt, once for all tests here."""
    tallies = {}
    for name, case in CASES.items():
        tallies[name] = Tally()
        case.function(Setting(whole=True), tallies[name])
    return tallies


@pytest.mark.parametrize("name", CASES)
def test_bochs_agrees(name: str, whole: dict[str, Tally]) -> None:
    assert [str(difference) for difference in whole[name].differences] == []
    assert whole[name].compared > 300
    assert set(whole[name].deviations) <= NAMES


@pytest.mark.parametrize("deviation", sorted(NAMES))
def test_the_deviation_is_still_there(deviation: str, whole: dict[str, Tally]) -> None:
    """Fails when new vectors no longer show it: take the deviation out of the suite then."""
    assert sum(tally.deviations.get(deviation, 0) for tally in whole.values()) >= 1


def test_most_rules_decide_some_attempt() -> None:
    """Of the rules that this processor can break; the others are of controls that it does not have."""
    recording = Recording()
    try:
        attempts = [one for base in recording.bases for one in recording.attempts(base)][::3]
        first = Counter(broken[0].rule for broken in map(recording.check, attempts) if broken)
    finally:
        recording.close()
    assert len(first) > 0.6 * len(RULES)
    assert sum(first.values()) > 4_000


def test_a_check_that_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checks of the host's state every broken host enters."""
    full = bochs_entry.check_entry
    monkeypatch.setattr(
        bochs_entry,
        "check_entry",
        lambda vmcs, profile: [one for one in full(vmcs, profile) if not one.rule.name.startswith("host ")],
    )
    tally = Tally()
    CASES["long-mode"].function(Setting(), tally)
    assert tally.different > 50
    assert any("host_" in difference.what for difference in tally.differences)
