"""Flushes that nothing required: what they dropped was still what the tables say."""

from dataclasses import dataclass
from typing import Any

from quire.observe.flushes.table_log import Actor
from quire.tlb import Operation

__all__ = ["Advice"]


@dataclass(slots=True)
class Advice:
    """`operation` of `actor`, executed `count` times for nothing; it dropped `dropped` good mappings in all.

    `needed` is how often the same operation at the same place was required.
    """

    operation: Operation
    actor: Actor
    count: int = 0
    dropped: int = 0
    needed: int = 0

    def record(self, symbol: str | None) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "operation": self.operation.name,
            "when": self.operation.value.when,
            "by": self.actor.kind,
            "rip": f"{self.actor.rip:#x}",
            "symbol": symbol,
            "count": self.count,
            "needed": self.needed,
            "dropped": self.dropped,
        }
