"""The suite of instructions: its table, the program that it makes, and that it would see a wrong result."""

import random

import pytest

from quire.testing import Outcome, Setting, known_suites, run_suites
from quire.testing.instructions import (
    State,
    deviations,
    executable,
    execute_natively,
    explain,
    operands,
    states,
)
from quire.testing.instructions.image import RECORD_BYTES
from quire.testing.instructions.integer import INTEGER
from quire.testing.instructions.variant import Variant
from quire.testing.instructions.vector import VECTOR
from quire.testing.instructions.x87 import X87
from quire.testing.runner import run_case
from quire.testing.suite import Case
from quire.testing.suites import instructions

SUITE = next(suite for suite in known_suites() if suite.name == "instructions")
ALL = (*INTEGER, *VECTOR, *X87)
needs_processor = pytest.mark.skipif(bool(SUITE.unavailable()), reason=SUITE.unavailable())


def test_names_are_unique_and_variants_many() -> None:
    assert len({variant.name for variant in ALL}) == len(ALL) > 800


def test_operands_are_a_function_of_the_seed() -> None:
    first, second = ([operands(one, random.Random(4)) for one in ALL[::20]] for _ in range(2))
    assert first == second


def test_a_state_goes_through_its_record() -> None:
    state = operands(ALL[0], random.Random(1))
    record = state.pack()
    assert len(record) == RECORD_BYTES
    assert State.unpack(record) == state
    assert list(states(record * 2)) == [state, state]


def test_a_program_of_no_instruction_leaves_what_it_began_with() -> None:
    """All but the pointers, which are the program's own, and what FXSAVE leaves undefined."""
    state = operands(Variant("none", b""), random.Random(5))
    (left,) = execute_natively([(b"\x90", state)])
    assert left.registers[:5] == state.registers[:5]
    assert left.rflags == state.rflags
    assert left.memory == state.memory
    assert left.fxsave[160:416] == state.fxsave[160:416]
    assert executable([(b"\x90", state)])[:4] == b"\x7fELF"


@needs_processor
def test_a_sample_agrees_but_for_named_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "_SAMPLE", 1)
    results = list(run_suites([SUITE], Setting(seed=9), jobs=1))
    assert [result.detail for result in results if result.outcome is not Outcome.PASSED] == []
    assert sum(result.tally.compared for result in results) > 4_000


@needs_processor
def test_a_wrong_result_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a guest that executes the instruction beside: SUB for ADD."""
    real = instructions.execute_as_guest

    def wrong(programs):  # type: ignore[no-untyped-def]
        return real(
            [(b"\x48\x29\xd0" if code == b"\x48\x01\xd0" else code, state) for code, state in programs]
        )

    monkeypatch.setattr(instructions, "execute_as_guest", wrong)
    some = [one for one in INTEGER if one.name in ("add64", "add32")]
    case = Case("some", lambda setting, tally: instructions.compare_instructions(some, setting, tally))
    result = run_case(SUITE, case, Setting())
    assert result.outcome is Outcome.FAILED
    assert "add64, registers, operands 0 of seed 0: quire (" in result.detail


def test_a_deviation_explains_what_it_says_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviations, "knows_library", lambda: False)  # elsewhere these are repaired
    fcomi = next(one for one in X87 if one.name == "fcomi")
    addps = next(one for one in VECTOR if one.name == "addps")
    assert explain(fcomi, "flags", 1, 0).startswith("N9: ")
    assert explain(fcomi, "registers", 1, 0) == ""
    quiet, other, number = (word.to_bytes(4, "little") * 4 for word in (0x7FC00001, 0xFFC00002, 0x3F800000))
    assert explain(addps, "xmm", quiet, other).startswith("N3: ")
    assert explain(addps, "xmm", quiet, number) == ""
