"""What every record read from a text has: the lines it came from, its values, what of it is damaged; and its answer.

A value is given, absent or damaged. What is absent is not zero: nothing is concluded from it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from quire.arch import CpuProfile
from quire.arch.known_processor import KnownProcessor
from quire.dumps.lines import Line
from quire.paging.lint import Finding, Findings, Severity
from quire.vcpu.lint import VmcsChecks

__all__ = ["Answer", "Damage", "Dump", "Surroundings"]

_MOST_DAMAGE = 100  # of one dump that are kept


@dataclass(frozen=True, slots=True)
class Damage:
    """A value that is there and cannot be used: in which line, what it is of, and why."""

    line: int
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a dump is judged by: a VMCS by what is known of a processor, a walk by a profile and an address width."""

    processor: KnownProcessor
    profile: CpuProfile
    maxphyaddr: int | None = None
    failed_entry: bool = False  #: whether the text tells of a VM entry that failed on a processor with VMX

    @property
    def width(self) -> int:
        """MAXPHYADDR in bits."""
        return self.profile.maxphyaddr if self.maxphyaddr is None else self.maxphyaddr


@dataclass(slots=True)
class Answer:
    """What is said of a dump: sentences, findings, decoded numbers, walks."""

    words: list[str] = field(default_factory=list)
    checks: VmcsChecks | None = None
    findings: Findings = field(default_factory=Findings)
    decoded: list[dict[str, Any]] = field(default_factory=list)
    walks: list[dict[str, Any]] = field(default_factory=list)

    def find(self, severity: Severity, rule: str, section: str, text: str, fix: str) -> None:
        """Add a finding about the dump as a whole."""
        self.findings.add(Finding(severity, rule, section, text, fix, "dump"))


class Dump(ABC):
    """One record while it is read and after: a format is a subclass.

    `begins` says whether a line can be the first of one; `take` is offered each line from the first on and says
    whether it belongs to the record. A line that can only be the first of another record must be refused.
    """

    #: What it is, as a heading.
    title = ""

    def __init__(self, context: str = "") -> None:
        self.context = context
        self.lines: list[int] = []
        self.given: dict[str, int] = {}
        self.damaged: list[Damage] = []

    @classmethod
    @abstractmethod
    def begins(cls, text: str) -> bool:
        """Return whether `text` can be the first line of such a record."""

    @abstractmethod
    def take(self, line: Line) -> bool:
        """Take what `line` says and return True, or False if it says nothing of this record."""

    @abstractmethod
    def answer(self, around: Surroundings) -> Answer:
        """Return what is to be said of it."""

    @property
    def holds(self) -> bool:
        """Whether anything of use was in its lines."""
        return bool(self.given or self.damaged)

    def note(self, name: str, value: int, line: Line) -> None:
        """Keep `value` as that of `name`; one that contradicts an earlier one makes the field damaged."""
        if any(one.name == name for one in self.damaged):
            return
        before = self.given.get(name)
        if before is not None and before != value:
            del self.given[name]
            self.damage(
                line, name, f"the dump says {before:#x} and {value:#x}: two dumps are mixed, or one is cut"
            )
            return
        self.given[name] = value

    def damage(self, line: Line, name: str, why: str) -> None:
        """Keep that the value of `name` cannot be used."""
        if len(self.damaged) < _MOST_DAMAGE:
            self.damaged.append(Damage(line.number, name, why))

    def facts(self) -> dict[str, str]:
        """Return the values by name, as text."""
        return {name: f"{value:#x}" for name, value in self.given.items()}
