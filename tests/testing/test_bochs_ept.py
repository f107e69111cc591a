"""Recorded EPT walks of Bochs: they agree but for its known faults, and each of those explains some of them."""

from functools import cache
from typing import Any

import pytest
from sampling import some

from quire.testing import Setting, Tally
from quire.testing.oracles.bochs_vectors import about, bochs_profile, vectors
from quire.testing.suites import bochs_ept
from quire.testing.suites.bochs_ept import BIT_12, DEVIATIONS, MISPLACED, SILENT_UPDATE, SUITES, WRITE_ONLY

# Recorded attempts are replayed once for all tests here: in one worker.
pytestmark = pytest.mark.xdist_group("bochs-ept")
CASES = {case.name: case for case in SUITES[0].cases}


@cache
def rows() -> tuple[Any, ...]:
    """Return all recorded rows, or the first of each kind with its exit, and of the others every seventh."""
    every, kept, seen = vectors("ept")["rows"], [], set()
    for number, row in enumerate(every):
        settings, access, _, (reason, detail, *_), _ = row
        kind = (settings["ad"], settings["mbec"], access, reason, detail)
        if not number % 7 or kind not in seen:
            seen.add(kind)
            kept.append(row)
    return tuple(some(every, kept))


@cache
def replayed(name: str) -> Tally:
    """Return what a case comes to."""
    tally = Tally()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bochs_ept, "vectors", lambda name: {**vectors(name), "rows": rows()})
        CASES[name].function(Setting(), tally)
    return tally


@pytest.mark.parametrize("name", CASES)
def test_bochs_agrees(name: str) -> None:
    tally = replayed(name)
    assert tally.differences == []
    assert tally.compared > some(1_400, 200)
    assert set(tally.deviations) <= set(DEVIATIONS)


@pytest.mark.parametrize(
    ("case", "deviation"),
    [
        ("read", SILENT_UPDATE),
        ("write", BIT_12),
        ("fetch-flags", WRITE_ONLY),
        ("read-mbec", MISPLACED),
    ],
)
def test_the_deviation_is_still_there(case: str, deviation: str) -> None:
    """Fails when new vectors no longer show it: take the deviation out of the suite then."""
    assert replayed(case).deviations[deviation] >= 1


def test_every_row_that_was_chosen_is_replayed() -> None:
    compared = sum(replayed(name).compared for name in CASES)
    assert compared == 2 * len(rows())  # kernel with twin, twin with Bochs


def test_a_wrong_walk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one physical-address bit less, the address of the guest's page is a reserved bit."""
    right = bochs_ept.physical_reserved
    monkeypatch.setattr(bochs_ept, "physical_reserved", lambda width: right(width - 1))
    monkeypatch.setattr(bochs_ept, "vectors", lambda name: {**vectors(name), "rows": rows()})
    tally = Tally()
    CASES["read"].function(Setting(), tally)
    assert tally.different > some(1_000, 150)


def test_the_vectors_say_what_they_are() -> None:
    made = vectors("ept")
    assert about(made).startswith("bochscpu-python 0.4.0, 2026-")
    profile = bochs_profile(made)
    assert (profile.maxphyaddr, profile.linear_bits, profile.ept_caps) == (40, 48, 0xF01_0673_4141)
