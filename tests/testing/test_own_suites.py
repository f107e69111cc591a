"""Quire's own suites agree: a sample of the walk matrix, of the reserved bits and of random worlds (at most 60 s)."""

import os

import pytest
from sampling import some

from quire.testing import Outcome, Setting, known_suites, run_suites
from quire.testing.suites import random_walks, walk_matrix

SUITES = {suite.name: suite for suite in known_suites()}


@pytest.mark.parametrize(
    ("name", "least"),
    [("walk-matrix", some(30_000, 7_500)), ("reserved-bits", 18_000), ("random-walks", some(12_000, 3_000))],
)
def test_the_kernel_and_its_twin_agree(name: str, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix by a sixth or twelfth of what ``quire check`` walks, which takes a minute."""
    monkeypatch.setattr(walk_matrix, "_SAMPLE", some(1000, 260))
    monkeypatch.setattr(random_walks, "_SAMPLE", some(1500, 380))
    jobs = len(os.sched_getaffinity(0))
    results = list(run_suites([SUITES[name]], Setting(seed=2), jobs=jobs))
    assert [result.detail for result in results if result.outcome is not Outcome.PASSED] == []
    assert sum(result.tally.compared for result in results) >= least


def test_a_whole_space_has_every_point_once() -> None:
    from quire.testing.suites.walk_matrix import Space

    space = Space("ab", range(3), (True, False))
    whole = [tuple(point) for point in space.points(Setting(whole=True))]
    assert len(whole) == len(set(whole)) == space.size == 12
    sample = [tuple(point) for point in space.points(Setting(seed=5), sample=7)]
    assert len(set(sample)) == 7


def test_a_wrong_kernel_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from quire.testing import walks
    from quire.testing.runner import run_case

    real = walks.walk

    def wrong(memory, context, gva, access, result):  # type: ignore[no-untyped-def]
        status = real(memory, context, gva, access, result)
        result[8] ^= 2  # the W bit of an error code
        return status

    monkeypatch.setattr(walks, "walk", wrong)
    suite = SUITES["walk-matrix"]
    case = next(one for one in suite.cases if one.name == "guest-4k-read")
    result = run_case(suite, case, Setting())
    assert result.outcome is Outcome.FAILED
    assert result.tally.different > 1000
