"""Which part of a large test runs: a sample that is always the same, or all of it with ``QUIRE_TESTS=whole``.

A sample has at least one case of each rule. Everything else runs whole in every run.
"""

import os
from typing import TypeVar

__all__ = ["WHOLE", "some"]

T = TypeVar("T")

WHOLE = os.environ.get("QUIRE_TESTS") == "whole"


def some(whole: T, sample: T) -> T:
    """Return `whole`, or in a run that samples, `sample`."""
    return whole if WHOLE else sample
