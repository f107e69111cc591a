"""What a check finds: how bad it is, where, by which rule, and what would mend it."""

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Findings", "Severity"]


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"  #: the processor faults, exits or refuses
    WARNING = "warning"  #: it works, and weakens the guest or depends on luck
    INFO = "info"  #: worth knowing: it costs memory or time, or is unusual


@dataclass(slots=True)
class Finding:
    """One finding. `start` to `end` are the addresses that it is about, `entry` is where the first entry lies.

    `count` is how many neighbouring entries it stands for.
    """

    severity: Severity
    rule: str
    section: str
    text: str
    fix: str
    subject: str
    start: int | None = None
    end: int | None = None
    entry: int | None = None
    count: int = 1


class Findings:
    """Findings in the order found; those of one rule whose addresses touch become one.

    At most `limit` are kept and joined; `left_out` says how many more there were; `totals` counts all by severity.
    """

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.kept: list[Finding] = []
        self.left_out = 0
        self.totals = dict.fromkeys(Severity, 0)
        self._last: dict[tuple[str, str, str], Finding] = {}

    def add(self, finding: Finding) -> None:
        """Take in `finding`."""
        key = finding.subject, finding.rule, finding.text
        last = self._last.get(key)
        if last is not None and finding.start is not None and last.end == finding.start:
            last.end = finding.end
            last.count += finding.count
            return
        self.totals[finding.severity] += 1
        if len(self.kept) == self.limit:
            self.left_out += 1
            return
        self._last[key] = finding
        self.kept.append(finding)
