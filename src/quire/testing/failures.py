"""Sweeps of failures: a scenario run once for each point of failure that it reaches, with that one failing.

What is proved: a failure is one clear error or is overcome, never a wrong result, and nothing stays behind.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from quire.errors import MisuseError
from quire.failpoints import FailurePlan

__all__ = ["FailureOutcome", "sweep_failures"]


@dataclass(frozen=True, slots=True)
class FailureOutcome:
    """What became of one failure: its ordinal, the point's name, and the text of what was raised, "" if overcome."""

    ordinal: int
    site: str
    text: str


def sweep_failures(
    scenario: Callable[[], object],
    check: Callable[[], None],
    *,
    sites: Collection[str] | None = None,
    every: int = 1,
) -> list[FailureOutcome]:
    """Run `scenario` whole, then once for each `every`-th point of failure that it reached, with that one failing.

    `check` is called after each run and raises for what leaked. What a run returns must equal what the whole one did,
    unless it raises the very error that was injected (or one that has it as its cause): AssertionError otherwise, with
    the ordinal and the name of the point. A scenario must be deterministic and clean up after itself.
    """
    if every < 1:
        raise MisuseError(f"Every {every}-th point of failure is none: give at least 1")
    count = FailurePlan(sites=sites)
    with count:
        expected = scenario()
    check()
    outcomes = []
    for ordinal in range(1, count.reached + 1, every):
        plan = FailurePlan(ordinal, sites)
        where = f"point of failure {ordinal} of {count.reached}"
        text = ""
        with plan:
            try:
                found = scenario()
            except Exception as error:
                if plan.error is None or not _comes_of(error, plan.error):
                    raise AssertionError(f"{where}: {plan.failed_site!r} came out as {error!r}") from error
                text = str(error)
            else:
                assert plan.error is not None, (
                    f"{where} was not reached again: the scenario is not deterministic"
                )
                assert found == expected, f"{where}: {plan.failed_site!r} failed and the result is {found!r}"
        try:
            check()
        except Exception as error:
            raise AssertionError(
                f"{where}: {plan.failed_site!r} failed and left something: {error}"
            ) from error
        outcomes.append(FailureOutcome(ordinal, plan.failed_site, text))
    return outcomes


def _comes_of(error: BaseException, injected: Exception) -> bool:
    """Whether `injected` is `error`, or what caused it."""
    found: BaseException | None = error
    while found is not None:
        if found is injected:
            return True
        found = found.__cause__
    return False
