"""What a case counts: comparisons that agreed, differences, and deviations of the oracle that are known by name."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Difference", "Tally"]

_KEPT = 20  # differences that a case keeps in words; all are counted


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement: what was compared, what Quire said, what the oracle said."""

    what: str
    quire: str
    oracle: str

    def __str__(self) -> str:
        return f"{self.what}: quire {self.quire}, oracle {self.oracle}"


@dataclass(slots=True)
class Tally:
    """Counts of one case. `deviations` are disagreements that a named, known fault of the oracle explains."""

    compared: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    deviations: dict[str, int] = field(default_factory=dict)

    def compare(self, what: str, quire: Any, oracle: Any, *, deviation: str = "") -> bool:
        """Count one comparison; return whether the two are equal.

        `deviation` names the known fault of the oracle that would explain an inequality here; without one an
        inequality is a difference, and the case fails.
        """
        self.compared += 1
        if quire == oracle:
            return True
        if deviation:
            self.deviations[deviation] = self.deviations.get(deviation, 0) + 1
            return False
        self.different += 1
        if len(self.differences) < _KEPT:
            self.differences.append(Difference(what, _words(quire), _words(oracle)))
        return False

    def check(self, what: str, holds: bool) -> bool:
        """Count one statement that must hold; return whether it does."""
        return self.compare(what, bool(holds), True)


def _words(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:#x}"
    if isinstance(value, tuple):
        return f"({', '.join(_words(one) for one in value)})"
    return str(value)
