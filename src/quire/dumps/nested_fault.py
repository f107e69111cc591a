"""AMD's nested page faults as hypervisors log them: EXITINFO1 has 64 bits, EXITINFO2 is the guest-physical address."""

import re

from quire.arch.amd import describe_npf
from quire.arch.decode import decode_subject
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line

__all__ = ["NestedFault", "say_nested_fault"]

_FIRST = re.compile(r"\bexit_?info_?1[:=]?\s{0,20}(?:is )?(?:0x)?([0-9a-f]{1,16})\b", re.IGNORECASE)
_SECOND = re.compile(r"\b(?:exit_?info_?2|gpa)[:=]?\s{0,20}(?:is )?(?:0x)?([0-9a-f]{1,16})\b", re.IGNORECASE)
_TRACE = re.compile(
    r"\bkvm_exit: .{0,80}?\breason (?:EXIT_)?npf rip 0x[0-9a-f]{1,16} info1? (?:0x)?([0-9a-f]{1,16}) "
    r"(?:info2 )?(?:0x)?([0-9a-f]{1,16})\b"
)
_CODE = re.compile(r"exit_?code[:=]?\s{1,20}(?:is )?0x400$", re.IGNORECASE)
_MOST_FAULTS = 1000


def say_nested_fault(answer: Answer, first: int, second: int | None) -> None:
    """Add what EXITINFO1 and EXITINFO2 of a nested page fault say."""
    where = "" if second is None else f"; guest-physical address {second:#x}"
    answer.words.append(f"EXITINFO1 {first:#x}: {describe_npf(first)}{where}")
    answer.decoded.append(decode_subject("npf-exitinfo1", first))


class NestedFault(Dump):
    """Nested page faults that follow each other; equal ones are counted."""

    title = "#NPF with EXITINFO1 (AMD)"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.faults: dict[tuple[int, int | None], int] = {}

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_FIRST.search(text) or _TRACE.search(text) or _CODE.match(text))

    @property
    def holds(self) -> bool:
        return bool(self.faults)

    def take(self, line: Line) -> bool:
        text = line.text
        found = _TRACE.search(text)
        first = found or _FIRST.search(text)
        if _CODE.match(text):
            return True
        if first is None:
            second = _SECOND.search(text)
            last = next(reversed(self.faults), None)
            if second is None or last is None or last[1] is not None:
                return False
            count = self.faults.pop(last)
            self._count((last[0], int(second[1], 16)), count)
            return True
        behind = _SECOND.search(text, first.end())
        second_text = found[2] if found is not None else behind[1] if behind is not None else None
        self._count((int(first[1], 16), None if second_text is None else int(second_text, 16)), 1)
        return True

    def _count(self, fault: tuple[int, int | None], more: int) -> None:
        if fault in self.faults or len(self.faults) < _MOST_FAULTS:
            self.faults[fault] = self.faults.get(fault, 0) + more

    def facts(self) -> dict[str, str]:
        return {
            f"exitinfo1 {first:#x}" + ("" if second is None else f", exitinfo2 {second:#x}"): f"{count}"
            for (first, second), count in self.faults.items()
        }

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        codes: dict[int, list[tuple[int | None, int]]] = {}
        for (first, second), count in self.faults.items():
            codes.setdefault(first, []).append((second, count))
        for first, seen in codes.items():
            say_nested_fault(answer, first, seen[0][0] if len(seen) == 1 else None)
            total = sum(count for _, count in seen)
            if total > 1:
                answer.words.append(f"   {total} times, at {len(seen)} address{'es' * (len(seen) != 1)}")
        answer.words.append("nested paging is AMD's: its entries and rules are not checked")
        return answer
