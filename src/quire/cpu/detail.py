"""How much a run records; what each engine can record it says in its registry entry."""

from enum import IntEnum

__all__ = ["Detail"]


class Detail(IntEnum):
    """How much a run records."""

    EXITS = 0  #: translations that the engine's own TLB misses, faults and exits
    FULL = 1  #: every read, write and instruction fetch goes through the modelled TLB
