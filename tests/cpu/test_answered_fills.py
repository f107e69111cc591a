"""Fills answered by Python: what is answered is given, what is held back happens later, what is raised comes out."""

import pytest
from ring0_guest import SWITCH, make, reported

from quire.arch import Access
from quire.cpu import Detail
from quire.guest.boot.bare import BareGuest
from quire.machine import CachingMode
from quire.mmu.kept_fills import KeptFills

SOURCE = SWITCH + "\nstore 0x300000, 7\nstore 0x203000, 0x300003\nreport [0x400000]\nfinish\n"
Words = "np.ndarray[tuple[int], np.dtype[np.uint64]]"


def guest(detail: Detail = Detail.EXITS) -> tuple[BareGuest, KeptFills]:
    made = make(SOURCE, "native", detail, caching=CachingMode.RETAIN)
    assert made.vcpu.fills is not None
    return made, made.vcpu.fills


def test_an_exception_of_an_answer_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made, fills = guest()
    answer = fills.answer

    def failing(gva: int, access: Access, result: Words) -> bool:
        if gva == 0x400000:
            raise ZeroDivisionError("of the test")
        return answer(gva, access, result)

    monkeypatch.setattr(fills, "answer", failing)
    try:
        with pytest.raises(ZeroDivisionError, match="of the test"):
            made.run()
    finally:
        made.close()


@pytest.mark.parametrize("detail", list(Detail), ids=lambda detail: detail.name.lower())
def test_an_instruction_that_is_held_back_happens_once(
    detail: Detail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told where it stands, goes on when it may, and is counted once."""
    made, fills = guest(detail)
    answer, held = fills.answer, []

    def hesitant(gva: int, access: Access, result: Words) -> bool:
        if gva == 0x400000 and len(held) < 3:
            result[:] = 0
            return False
        return answer(gva, access, result)

    def on_hold(gva: int, rip: int) -> bool:
        held.append((gva, rip))
        return len(held) == 2  # once alone

    monkeypatch.setattr(fills, "answer", hesitant)
    monkeypatch.setattr(fills, "held", on_hold)
    monkeypatch.setattr(fills, "passed", lambda: held.append("passed"))
    plain = make(SOURCE, "native", detail)
    try:
        outcome, expected = made.run(), plain.run()
    finally:
        made.close()
        plain.close()
    assert reported(outcome) == reported(expected) == [7]
    assert outcome.events.get("instructions") == expected.events.get("instructions")
    (first, rip), *rest = held
    assert first == 0x400000 and rest == [(first, rip), (first, rip), "passed"]
