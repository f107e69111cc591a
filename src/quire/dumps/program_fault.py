"""Faults in one line: a program that died of one, and a general protection fault of the kernel's, as Linux logs them.

No entries stand beside them, so there is no walk to make again: the error code is put into words, and an address that
is not canonical is told from one that is not mapped (SDM 1 §3.3.7.1).
"""

import re

from quire.arch import PF_ERROR, describe_page_fault, is_canonical
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.dumps.linux_oops import AROUND_AN_OOPS
from quire.paging.lint import Severity

__all__ = ["ProgramFault"]

_HEX = r"(?:0x)?([0-9a-f]{1,16})"
_SEGFAULT = re.compile(
    r"(.{1,80}?): segfault at " + _HEX + r" ip " + _HEX + r" sp " + _HEX + r" error " + _HEX + r"\b"
)
_PROTECTION = re.compile(
    r"(?:traps: )?(.{1,80}?)(?: trap)? general protection(?: fault)? ip:"
    + _HEX
    + r" sp:"
    + _HEX
    + r" error:"
    + _HEX
)
_OF_KERNEL = re.compile(
    r"general protection fault, (?:probably|maybe) for (?:non-canonical )?address "
    + _HEX
    + r": ([0-9a-f]{4})\b"
)
_KERNEL = "the kernel"
#: What a line may look like, whose fault it is (None: the first group says), and what its numbers are.
_FORMS: tuple[tuple[re.Pattern[str], str | None, tuple[str, ...]], ...] = (
    (_SEGFAULT, None, ("address", "rip", "rsp", "error_code")),
    (_PROTECTION, None, ("rip", "rsp", "selector_code")),
    (_OF_KERNEL, _KERNEL, ("address", "selector_code")),
)
_WIDTHS = (48, 57)  # linear-address bits of 4-level and 5-level paging
_NEAR_NULL = 4096


class ProgramFault(Dump):
    """One such line."""

    title = "fault of a program, or a general protection fault, in one line of Linux's"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self._who = ""

    @classmethod
    def begins(cls, text: str) -> bool:
        return any(form.match(text) for form, _, _ in _FORMS)

    def take(self, line: Line) -> bool:
        if self.lines:
            return self._who == _KERNEL and bool(AROUND_AN_OOPS.match(line.text))
        for form, who, names in _FORMS:
            found = form.match(line.text)
            if found is None:
                continue
            self._who = who or found[1]
            for name, value in zip(names, found.groups()[not who :], strict=True):
                self.note(name, int(value, 16), line)
            return True
        return False

    def answer(self, around: Surroundings) -> Answer:
        answer, given = Answer(), self.given
        code, address = given.get("error_code"), given.get("address")
        if code is not None and not code & PF_ERROR.reserved_mask:
            answer.words.append(
                f"{self._who}: error code {code:#x}: {describe_page_fault(code)}, at {address:#x}"
            )
            if address is not None and address < _NEAR_NULL:
                answer.words.append("a pointer was null, or nearly: look at the register that held it")
        elif code is not None:
            answer.words.append(f"error code {code:#x} has bits that no page fault delivers")
        if "selector_code" in given:
            _protection(answer, self._who, given["selector_code"], address)
        return answer


def _protection(answer: Answer, who: str, code: int, address: int | None) -> None:
    """Say what a #GP is about: a selector, an address that is not canonical, or neither."""
    if code:
        answer.words.append(f"{who}: #GP({code:#x}): the code names a selector (SDM 3A §6.13)")
        return
    wrong = [] if address is None else [width for width in _WIDTHS if not is_canonical(address, width)]
    if address is not None and wrong:
        which = "any paging" if len(wrong) == len(_WIDTHS) else "4-level paging; it is with 5 levels"
        answer.find(
            Severity.ERROR,
            "non-canonical",
            "SDM 1 §3.3.7.1",
            f"{who}: #GP(0): {address:#x} is not canonical with {which}: no table was read",
            "look at the register that held the address: it is overwritten, freed and poisoned, or has bits of a tag",
        )
    else:
        answer.words.append(
            f"{who}: #GP(0): no selector and no address that is not canonical is told; a privileged instruction, a "
            "misaligned operand, or an address that Linux did not print"
        )
