"""Plans of failure and sweeps over them."""

import re

import pytest

from quire import failpoints
from quire.errors import BackendError, MisuseError
from quire.memory import HostMemory, OutOfFrames, Owner, OwnerKind, Pool
from quire.testing import FailureOutcome, FailurePlan, reach, sweep_failures

OWNER = Owner(OwnerKind.HYPERVISOR, "test")


def test_the_ordinal_chooses_what_fails() -> None:
    pool = Pool(0, 16)
    with FailurePlan(2) as plan:
        pool.allocate(0, OWNER)
        with pytest.raises(OutOfFrames) as caught:
            pool.allocate(3, OWNER)
        pool.allocate(0, OWNER)
    assert plan.error is caught.value
    assert (plan.failed_site, plan.reached, plan.by_site) == ("allocate", 3, {"allocate": 3})
    pool.allocate(0, OWNER)
    assert plan.reached == 3, "a plan that is not armed counts nothing"
    pool.audit()


def test_sites_narrow_a_plan() -> None:
    with FailurePlan(1, {"map host memory"}) as plan:
        Pool(0, 16).allocate(0, OWNER)
        with pytest.raises(BackendError, match="Cannot allocate memory; ask for less"):
            HostMemory(1 << 20)
    assert plan.failed_site == "map host memory"


def test_misuse() -> None:
    with pytest.raises(
        MisuseError, match=r"^No point of failure has ordinal 0: the first that is reached has 1$"
    ):
        FailurePlan(0)
    with (
        FailurePlan(),
        pytest.raises(MisuseError, match=r"^A failure plan is armed already: leave its with block first$"),
        FailurePlan(),
    ):
        pass
    assert failpoints.armed is None
    with pytest.raises(MisuseError, match=r"^Every 0-th point of failure is none: give at least 1$"):
        sweep_failures(lambda: None, lambda: None, every=0)


class Shelf:
    """A hypervisor of a user's own, with points of failure of its own; `leaks` is its bug."""

    def __init__(self, leaks: bool = False, wrong: bool = False, hides: bool = False) -> None:
        self.kept: list[int] = []
        self.leaks, self.wrong, self.hides = leaks, wrong, hides

    def scenario(self) -> int:
        taken = []
        try:
            for n in range(3):
                reach("shelf", lambda: KeyError("full"))
                taken.append(n)
                self.kept.append(n)
            reach("optional", lambda: KeyError("no room"))
        except KeyError as error:
            if self.hides:
                raise RuntimeError("something") from None
            if error.args != ("no room",):
                if not self.leaks:
                    self.kept.clear()
                raise
            if self.wrong:
                taken.pop()
        self.kept.clear()
        return len(taken)

    def check(self) -> None:
        if self.kept:
            raise ValueError(f"{len(self.kept)} kept")


def test_a_sweep_fails_each_point_in_turn() -> None:
    shelf = Shelf()
    assert sweep_failures(shelf.scenario, shelf.check) == [
        FailureOutcome(1, "shelf", "'full'"),
        FailureOutcome(2, "shelf", "'full'"),
        FailureOutcome(3, "shelf", "'full'"),
        FailureOutcome(4, "optional", ""),
    ]


@pytest.mark.parametrize(
    ("shelf", "text"),
    [
        (Shelf(leaks=True), "point of failure 2 of 4: 'shelf' failed and left something: 1 kept"),
        (Shelf(wrong=True), "point of failure 4 of 4: 'optional' failed and the result is 2"),
        (Shelf(hides=True), "point of failure 1 of 4: 'shelf' came out as RuntimeError('something')"),
    ],
)
def test_a_sweep_finds_what_is_wrong(shelf: Shelf, text: str) -> None:
    with pytest.raises(AssertionError, match=f"^{re.escape(text)}"):
        sweep_failures(shelf.scenario, shelf.check)
