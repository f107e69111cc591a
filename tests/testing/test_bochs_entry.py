"""Recorded VM entries of Bochs: they agree but for its known faults, and each of those explains some of them."""

from collections import Counter
from collections.abc import Iterator

import pytest
from sampling import some

from quire.testing import Setting, Tally
from quire.testing.suites import bochs_entry
from quire.testing.suites.bochs_entry import DEVIATIONS, SUITES, WRAPPED_COUNT, Attempt, Recording
from quire.vcpu.checks import RULES

# Recorded attempts are replayed once for all tests here: in one worker.
pytestmark = pytest.mark.xdist_group("bochs-entry")
CASES = {case.name: case for case in SUITES[0].cases}
NAMES = {one.name for one in DEVIATIONS} | {WRAPPED_COUNT}


class Sample(Recording):
    """The first attempt that changes certain fields with a certain outcome, and of the others every seventh."""

    def attempts(self, base: str) -> Iterator[Attempt]:
        seen = set()
        for number, attempt in enumerate(super().attempts(base)):
            kind = (*sorted(attempt.fields), attempt.outcome)
            if not number % 7 or kind not in seen:
                seen.add(kind)
                yield attempt


@pytest.fixture(scope="session")
def replayed() -> dict[str, Tally]:
    """Recorded attempts, a sample or every one, once for all tests here."""
    tallies = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bochs_entry, "Recording", some(Recording, Sample))
        for name, case in CASES.items():
            tallies[name] = Tally()
            case.function(Setting(whole=True), tallies[name])
    return tallies


@pytest.mark.parametrize("name", CASES)
def test_bochs_agrees(name: str, replayed: dict[str, Tally]) -> None:
    assert [str(difference) for difference in replayed[name].differences] == []
    assert replayed[name].compared > some(300, 60)
    assert set(replayed[name].deviations) <= NAMES


@pytest.mark.parametrize("deviation", sorted(NAMES))
def test_the_deviation_is_still_there(deviation: str, replayed: dict[str, Tally]) -> None:
    """Fails when new vectors no longer show it: take the deviation out of the suite then."""
    assert sum(tally.deviations.get(deviation, 0) for tally in replayed.values()) >= 1


def test_most_rules_decide_some_attempt() -> None:
    """Of the rules that this processor can break; the others are of controls that it does not have."""
    recording = Recording()
    try:
        attempts = [one for base in recording.bases for one in recording.attempts(base)][:: some(3, 9)]
        first = Counter(broken[0].rule for broken in map(recording.check, attempts) if broken)
    finally:
        recording.close()
    assert len(first) > 0.6 * len(RULES)
    assert sum(first.values()) > some(4_000, 1_300)


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
