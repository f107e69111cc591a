"""Mappings as QEMU's ``info tlb`` and ``info mem`` print them: what is mapped, and what of it is risky."""

import re

from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.paging.lint import Finding, Severity

__all__ = ["QemuMaps"]

_PAGE = re.compile(r"([0-9a-f]{8,16}): ([0-9a-f]{8,16}) ([X-][G-][P-][D-][A-][C-][T-][U-][W-])$")
_RANGE = re.compile(r"([0-9a-f]{8,16})-([0-9a-f]{8,16}) ([0-9a-f]{8,16}) ([u-][r-][w-])$")
_COMMAND = re.compile(r"\(qemu\) info (?:tlb|mem)$")
_MOST_MAPPINGS = 1 << 20
_PAGE_BYTES = {"-": 0x1000, "P": 0x20_0000}


class QemuMaps(Dump):
    """Mappings of one address space: start, length, whether a user may, may write, may execute (None: not told)."""

    title = "mappings as QEMU's info tlb and info mem print them"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.mappings: list[tuple[int, int, bool, bool, bool | None]] = []

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_PAGE.match(text) or _RANGE.match(text) or _COMMAND.match(text))

    @property
    def holds(self) -> bool:
        return bool(self.mappings)

    def take(self, line: Line) -> bool:
        if (found := _PAGE.match(line.text)) is not None:
            flags = found[3]
            one = (
                int(found[1], 16),
                _PAGE_BYTES[flags[2]],
                flags[7] == "U",
                flags[8] == "W",
                flags[0] != "X",
            )
            self._keep(one)
            return True
        if (found := _RANGE.match(line.text)) is not None:
            start, end = int(found[1], 16), int(found[2], 16)
            if end <= start or end - start != int(found[3], 16):
                self.damage(line, "range", "its end, less its start, is not the size that is printed")
                return True
            self._keep((start, end - start, "u" in found[4], "w" in found[4], None))
            return True
        return bool(_COMMAND.match(line.text))

    def _keep(self, one: tuple[int, int, bool, bool, bool | None]) -> None:
        if len(self.mappings) < _MOST_MAPPINGS:
            self.mappings.append(one)

    def facts(self) -> dict[str, str]:
        return {
            "mappings": str(len(self.mappings)),
            "bytes": f"{sum(length for _, length, *_ in self.mappings):#x}",
            "user": str(sum(user for _, _, user, _, _ in self.mappings)),
        }

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        users = sum(user for _, _, user, _, _ in self.mappings)
        total = sum(length for _, length, *_ in self.mappings)
        answer.words.append(
            f"{len(self.mappings)} mappings of {total:#x} bytes, {users} of them for user mode"
        )
        if any(executable is None for *_, executable in self.mappings):
            answer.words.append("info mem does not tell what may be executed: info tlb does")
        for start, length, user, writable, executable in self.mappings:
            if writable and executable:
                answer.findings.add(
                    Finding(
                        Severity.WARNING,
                        "writable and executable",
                        "SDM 3A §4.6.1",
                        f"{'user' if user else 'supervisor'} pages can be written and executed",
                        "set XD where there is data, clear R/W where there is code",
                        "guest",
                        start,
                        start + length,
                    )
                )
        return answer
