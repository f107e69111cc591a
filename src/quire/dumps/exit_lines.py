"""VM exits as logs and traces have them, often the same one again and again: reason and qualification, counted."""

import re

from quire.arch import ExitReason, describe_exit
from quire.arch.decode import decode_qualification
from quire.dumps.dump import Answer, Dump, Surroundings
from quire.dumps.lines import Line
from quire.paging.lint import Severity

__all__ = ["ExitLines"]

_NAME = r"(?P<reason>0x[0-9a-f]{1,8}|\d{1,10}|[A-Z][A-Z_0-9]{2,40})"
_VALUE = r"(?:0x)?(?P<qualification>[0-9a-f]{1,16})\b"
_TRACE = re.compile(
    r".{0,120}\bkvm_(?:nested_vm)?exit: .{0,60}?\breason:? "
    + _NAME
    + r" rip:? 0x[0-9a-f]{1,16} (?:info1? |ext_inf1: )"
    + _VALUE
)
_LOGGED = re.compile(
    r".{0,120}?\b(?P<vm>vm[- ]?)?exit[-_ ]?reason(?: is)?[:=]?\s{0,8}\(?" + _NAME + r"\)?"
    r"(?:.{0,80}?\bqualification(?: is)?[:=]?\s{0,8}" + _VALUE + ")?",
    re.IGNORECASE,
)
_UNEXPECTED = re.compile(r"vmx: unexpected exit reason " + _NAME + "$")
_EPT = re.compile(
    r".{0,120}?\bEPT[ _-]violation\b.{0,80}?\bqual(?:ification)?(?: is)?[:=]?\s{0,8}" + _VALUE, re.IGNORECASE
)
_QUALIFICATION_ALONE = re.compile(
    r".{0,80}?\b(?:exit[-_ ]?)?qualification[:=]?\s{0,8}" + _VALUE + "$", re.IGNORECASE
)
_RIP = re.compile(r"\brip:? (0x[0-9a-f]{1,16})\b")
_ENTRY = re.compile(r".{0,120}?\bkvm_entry: ")
#: What Linux calls exits that the manual calls otherwise.
_LINUX_NAMES = {
    "EXCEPTION_NMI": ExitReason.EXCEPTION_OR_NMI,
    "PENDING_INTERRUPT": ExitReason.INTERRUPT_WINDOW,
    "MSR_READ": ExitReason.RDMSR,
    "MSR_WRITE": ExitReason.WRMSR,
    "DR_ACCESS": ExitReason.MOV_DR,
    "INVALID_STATE": ExitReason.ENTRY_FAILURE_GUEST_STATE,
    "MSR_LOAD_FAIL": ExitReason.ENTRY_FAILURE_MSR_LOADING,
    "MWAIT_INSTRUCTION": ExitReason.MWAIT,
    "MONITOR_INSTRUCTION": ExitReason.MONITOR,
    "PAUSE_INSTRUCTION": ExitReason.PAUSE,
    "EOI_INDUCED": ExitReason.VIRTUALIZED_EOI,
    "GDTR_IDTR": ExitReason.ACCESS_TO_GDTR_OR_IDTR,
    "LDTR_TR": ExitReason.ACCESS_TO_LDTR_OR_TR,
    "EPT_MISCONFIG": ExitReason.EPT_MISCONFIGURATION,
    "PREEMPTION_TIMER": ExitReason.VMX_PREEMPTION_TIMER_EXPIRED,
    "PML_FULL": ExitReason.PAGE_MODIFICATION_LOG_FULL,
    "TPR_BELOW_THRESHOLD": ExitReason.TPR_BELOW_THRESHOLD,
}
_NAMES = {member.name: member for member in ExitReason} | _LINUX_NAMES
_NUMBERS = {int(member): member.name for member in ExitReason}
_TWO_DIGITS = 10
_BASIC = 0xFFFF
_WIDEST_REASON = 32
_MOST_EXITS = 1000
_DECODED = 8
_LOOP = 3  # equal exits in a row that are worth a word


def _reason(text: str) -> int | None:
    """Return the exit reason that a word or a number is; None if it is none."""
    if text[0].isdigit():
        value = int(text, 16 if text.lower().startswith("0x") else 10)
        return None if value >> _WIDEST_REASON else value
    name = text.upper().removeprefix("EXIT_REASON_").removeprefix("VMX_EXIT_")
    found = _NAMES.get(name)
    return None if found is None else int(found)


def _is_of_a_vm(found: re.Match[str]) -> bool:
    """Return whether a logged reason is that of a VM exit: other things exit for reasons too, with small numbers."""
    return bool(found["vm"] or found["qualification"] or not found["reason"].isdecimal())


class ExitLines(Dump):
    """The exits of one context, in the order in which each was first seen."""

    title = "VM exits with their qualifications"

    def __init__(self, context: str = "") -> None:
        super().__init__(context)
        self.exits: dict[tuple[int | None, int | None], int] = {}
        self._last: tuple[tuple[int | None, int | None], str] | None = None
        self._run = self._longest_run = 0
        self._has_prefixes = False  # the log writes 0x where it means it
        self.bare: set[int] = set()  # reasons that may be hexadecimal: two digits and more without 0x

    @classmethod
    def begins(cls, text: str) -> bool:
        return cls._read(text) is not None

    @property
    def holds(self) -> bool:
        return bool(self.exits)

    @staticmethod
    def _read(text: str) -> tuple[int | None, int | None] | None:
        """Return reason and qualification of a line, None for what it does not say; None if it has no exit."""
        if (found := _EPT.match(text)) is not None:
            return int(ExitReason.EPT_VIOLATION), int(found["qualification"], 16)
        for pattern in (_TRACE, _LOGGED, _UNEXPECTED):
            found = pattern.match(text)
            if found is None:
                continue
            reason = _reason(found["reason"])
            if reason is None or (pattern is _LOGGED and not _is_of_a_vm(found)):
                continue
            value = found.groupdict().get("qualification")
            return reason, None if value is None else int(value, 16)
        alone = _QUALIFICATION_ALONE.match(text)
        return None if alone is None else (None, int(alone["qualification"], 16))

    def take(self, line: Line) -> bool:
        found = self._read(line.text)
        if found is None:
            return bool(_ENTRY.match(line.text))
        if found[0] is None:
            last = next(reversed(self.exits), None)
            if last is not None and last[0] is not None and last[1] is None:
                self._count((last[0], found[1]), self.exits.pop(last))
                return True
        else:
            self._note_bare(line.text, found[0])
        self._follow(found, line.text)
        self._count(found, 1)
        return True

    def _follow(self, exit: tuple[int | None, int | None], text: str) -> None:
        """Keep how often one EPT violation, at one instruction if the line tells it, came in a row."""
        found = _RIP.search(text)
        this = (exit, found[1] if found is not None else "")
        self._run = self._run + 1 if this == self._last else 1
        self._last = this
        if exit[0] == ExitReason.EPT_VIOLATION:
            self._longest_run = max(self._longest_run, self._run)

    def _note_bare(self, text: str, reason: int) -> None:
        named = _LOGGED.match(text)
        if named is None:
            return
        self._has_prefixes = self._has_prefixes or named["reason"].lower().startswith("0x")
        if named["reason"].isdecimal() and reason >= _TWO_DIGITS:
            self.bare.add(reason)

    def _count(self, one: tuple[int | None, int | None], more: int) -> None:
        if one in self.exits or len(self.exits) < _MOST_EXITS:
            self.exits[one] = self.exits.get(one, 0) + more

    def facts(self) -> dict[str, str]:
        return {
            " ".join(
                [
                    "reason unknown" if reason is None else f"reason {reason:#x}",
                    *([] if qualification is None else [f"qualification {qualification:#x}"]),
                ]
            ): str(count)
            for (reason, qualification), count in self.exits.items()
        }

    def answer(self, around: Surroundings) -> Answer:
        answer = Answer()
        for (reason, qualification), count in self.exits.items():
            times = f", {count} times" if count > 1 else ""
            if reason is None:
                answer.words.append(
                    f"qualification {qualification or 0:#x}{times}: what it means depends on the exit reason, which "
                    "the dump does not have: quire decode exit-qualification --reason REASON"
                )
                continue
            said = describe_exit(reason, qualification or 0)
            if qualification is None:
                said = said.partition(":")[0]
            other = (
                _NUMBERS.get(int(str(reason), 16)) if reason in self.bare and not self._has_prefixes else None
            )
            said += (
                "" if other is None else f" (or, if the log writes hexadecimal numbers without 0x, {other})"
            )
            answer.words.append(f"{said}{times}")
            if reason & _BASIC == ExitReason.EPT_MISCONFIGURATION:
                answer.find(
                    Severity.INFO,
                    "EPT misconfiguration",
                    "SDM 3C §28.3.3.1",
                    "an EPT entry has a form that the processor refuses; KVM makes such entries on purpose for pages "
                    "of devices, and each access to one is such an exit",
                    "of any other page paste the entries of the walk, highest level first",
                )
            if qualification is not None and len(answer.decoded) < _DECODED:
                answer.decoded.append(decode_qualification(reason & _BASIC, qualification))
        self._say_loop(answer)
        return answer

    def _say_loop(self, answer: Answer) -> None:
        """An EPT violation that comes again at once was not mended: entries say what they said before."""
        if self._longest_run < _LOOP:
            return
        answer.find(
            Severity.WARNING,
            "exit loop",
            "SDM 3C §28.4.3.1",
            f"the same EPT violation came {self._longest_run} times in a row: if the address is one, what the handler "
            "changed does not allow the access, or a stale translation is still used",
            "compare the rights that the qualification shows with the entry that was written, then INVEPT",
        )
