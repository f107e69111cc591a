"""Which part of the tests runs, by QUIRE_TESTS: few cases of each, all (``landing``), or large ones whole (``whole``).

What a run samples is always the same. It has every test, and of its cases the first and every sixth from there on; a
large test has at least one case of each rule.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = ["EVERY_CASE", "WHOLE", "few", "some"]

T = TypeVar("T")

WHOLE = os.environ.get("QUIRE_TESTS") == "whole"
#: All cases of each test, as a landing must pass them.
EVERY_CASE = WHOLE or os.environ.get("QUIRE_TESTS") == "landing"
_EVERY = 6


def some(whole: T, sample: T) -> T:
    """Return `whole`, or in a run that samples, `sample`."""
    return whole if WHOLE else sample


def few(names: Sequence[str]) -> Iterable[bool]:
    """Return of each test, whose name ends with its case in brackets, whether a run with few cases has it."""
    seen: dict[str, int] = {}
    for name in names:
        test = name.partition("[")[0]
        number = seen[test] = seen.get(test, -1) + 1
        yield number % _EVERY == 0
