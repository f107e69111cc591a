"""Random worlds of every mode with every control, a few bits spoiled: the kernel against the slow twin."""

import random
from collections.abc import Callable

from quire.testing.random_world import random_access, random_world
from quire.testing.suite import Setting, Suite
from quire.testing.tally import Tally
from quire.testing.walks import compare_walks

__all__ = ["SUITES"]

_CASES, _SAMPLE, _WHOLE = 8, 1_500, 100_000


def _case(number: int) -> Callable[[Setting, Tally], None]:
    def run(setting: Setting, tally: Tally) -> None:
        rng = random.Random(setting.seed * _CASES + number)
        for n in range(_WHOLE if setting.whole else _SAMPLE):
            world = random_world(rng)
            compare_walks(tally, world, world.gva, random_access(rng), f"world {n} of case {number}")

    return run


def _suite() -> Suite:
    suite = Suite(
        "random-walks",
        oracle="slow twin",
        title="random worlds of every mode and control, kernel against the twin",
    )
    for number in range(_CASES):
        suite.case(f"worlds-{number}")(_case(number))
    return suite


SUITES = [_suite()]
