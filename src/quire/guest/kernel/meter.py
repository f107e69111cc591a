"""What one thread used of the vCPUs, from turn to turn: instructions, misses, walks, and what others cost it."""

from dataclasses import dataclass, fields
from typing import NamedTuple

__all__ = ["Meter", "Tally"]


class Tally(NamedTuple):
    """What a vCPU has counted so far. `tlb_misses` are those of its first level, if accesses are looked up there."""

    instructions: int
    tlb_misses: int
    walks: int


@dataclass(slots=True)
class Meter:
    """Sums over the turns that have ended.

    `switches` are how often it was given a vCPU in the place of another task, `refills` how many translations it had
    lost from the TLBs by then: what a switch costs it.
    """

    instructions: int = 0
    tlb_misses: int = 0
    walks: int = 0
    switches: int = 0
    refills: int = 0

    def add(self, since: Tally, now: Tally) -> None:
        """A turn has ended."""
        self.instructions += now.instructions - since.instructions
        self.tlb_misses += now.tlb_misses - since.tlb_misses
        self.walks += now.walks - since.walks

    def join(self, other: "Meter") -> None:
        """Add what another one has."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
