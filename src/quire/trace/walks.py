"""The page walks of a replay: their counts, and how compiled code writes them."""

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["WalkCount", "Walks"]


class WalkCount(IntEnum):
    """Index of each count in the array that compiled code adds to."""

    WALKS = 0
    FAULTED = 1
    GUEST_REFERENCES = 2
    HOST_REFERENCES = 3
    AHEAD = 4  #: no count: what was loaded ahead, which has to go somewhere


@dataclass(frozen=True, slots=True)
class Walks:
    """Page walks of a replay: how many, how many of them faulted, the references that memory saw."""

    walks: int
    faulted: int
    guest_references: int
    host_references: int
