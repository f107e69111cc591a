"""What the engine computes otherwise than this processor: each deviation is still there, and the page lists it."""

import random
from functools import cache
from pathlib import Path

import pytest

from quire.testing import Setting, Tally
from quire.testing.instructions import (
    DEVIATIONS,
    EngineDeviation,
    ExecutionError,
    execute_as_guest,
    execute_natively,
    explain,
    operands,
)
from quire.testing.instructions.integer import INTEGER
from quire.testing.instructions.variant import Variant
from quire.testing.instructions.vector import VECTOR
from quire.testing.instructions.x87 import X87
from quire.testing.suites import instructions

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "engine.md"
UNAVAILABLE = instructions.SUITES[0].unavailable()
pytestmark = pytest.mark.skipif(bool(UNAVAILABLE), reason=UNAVAILABLE)

#: Instructions that show the deviations of many, and those that alone show one.
SHOWING = ("addps", "divsd", "mulps", "fdiv")
SEEN = [one for one in DEVIATIONS if one.patterns and not one.repaired]
REFUSED = [one for one in DEVIATIONS if one.refused]


@cache
def seen() -> dict[str, int]:
    """Return how often each deviation showed, in one run of all instructions that can."""
    few = [
        one
        for one in SEEN
        if "*" not in one.patterns and "f*" not in one.patterns and "*ps" not in one.patterns
    ]
    chosen = [
        variant
        for variant in (*INTEGER, *VECTOR, *X87)
        if variant.name in SHOWING or any(one.concerns(variant, one.aspects[0]) for one in few)
    ]
    tally = Tally()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instructions, "_SAMPLE", 60)
        instructions.compare_instructions(chosen, Setting(seed=3), tally)
    assert [str(one) for one in tally.differences] == []
    return tally.deviations


@pytest.mark.parametrize("deviation", SEEN, ids=lambda one: one.name.split(":")[0])
def test_a_deviation_is_still_there(deviation: EngineDeviation) -> None:
    """If this fails the engine has learnt it: take the deviation off the list."""
    assert seen().get(deviation.name, 0) > 0


@pytest.mark.parametrize("deviation", REFUSED, ids=lambda one: one.name.split(":")[0])
def test_what_a_processor_refuses_goes_on(deviation: EngineDeviation) -> None:
    state = operands(Variant("any", b""), random.Random(0))
    for code in deviation.refused:
        with pytest.raises(ExecutionError, match=f"ended natively with status {-deviation.signal}"):
            execute_natively([(code, state)])
    assert len(execute_as_guest([(code, state) for code in deviation.refused])) == len(deviation.refused)


def test_the_page_lists_each_deviation_and_no_other() -> None:
    rows = [
        f"| {one.name} | {one.wrong} | {one.right} | {one.since} |"
        for repaired in (False, True)
        for one in DEVIATIONS
        if one.repaired is repaired
    ]
    listed = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| N")]
    assert listed == rows


def test_what_is_repaired_explains_nothing_where_the_library_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add = next(one for one in VECTOR if one.name == "addps")
    assert explain(add, "mxcsr", 0x1F80, 0x1FA0) == ""
    monkeypatch.setattr("quire.testing.instructions.deviations.knows_library", lambda: False)
    assert explain(add, "mxcsr", 0x1F80, 0x1FA0).startswith("N1:")
