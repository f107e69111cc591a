"""Replacement policies of TLBs and walk caches: names, numbers, words, and what each does, in plain Python.

A new policy is a class and a member of :class:`Replacement` here, and its branches in
``tlb/_kernels_replacement.py``, of which the classes are the slow twins; everything else asks :class:`Replacement`.
Contract of both: a free way is taken before any policy is asked; an entry that is used twice in a row, with nothing in
between, leaves its set as the first use did.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

__all__ = ["Replacement", "SetTwin"]


class SetTwin(Protocol):
    """What a policy knows of one set, in plain Python."""

    def __init__(self, ways: int) -> None: ...

    def use(self, way: int, clock: int) -> None:
        """Note that `way` was used, or taken, at `clock`."""
        ...

    def victim(self, draw: Callable[[], int]) -> int:
        """Return the way that goes, of a full set; `draw` gives the next number of the TLB's generator."""
        ...


class _LeastRecent:
    """The way that was used longest ago."""

    def __init__(self, ways: int) -> None:
        self.used = [0] * ways

    def use(self, way: int, clock: int) -> None:
        self.used[way] = clock

    def victim(self, draw: Callable[[], int]) -> int:
        return self.used.index(min(self.used))


class _Tree:
    """Tree-PLRU: nodes are named by the ways below them, and say whether the next victim is in the upper half."""

    def __init__(self, ways: int) -> None:
        self.ways = ways
        self.span = 1 << (ways - 1).bit_length()
        self.upper: dict[tuple[int, int], bool] = {}

    def use(self, way: int, clock: int) -> None:
        low, span = 0, self.span
        while span > 1:
            span //= 2
            in_upper = way >= low + span
            self.upper[low, span] = not in_upper
            low += span * in_upper

    def victim(self, draw: Callable[[], int]) -> int:
        low, span = 0, self.span
        while span > 1:
            span //= 2
            if self.upper.get((low, span), False) and low + span < self.ways:
                low += span
        return low


class _Random:
    """Any way."""

    def __init__(self, ways: int) -> None:
        self.ways = ways

    def use(self, way: int, clock: int) -> None:
        pass

    def victim(self, draw: Callable[[], int]) -> int:
        return draw() % self.ways


class Replacement(StrEnum):
    """Which entry of a full set goes: its name; its `number` in arrays, from 0 on; in `words`; its slow `twin`.

    With `marks` a use changes the word that the policy keeps of each set, not the entry's stamp alone.
    """

    number: int
    words: str
    marks: bool
    twin: type[SetTwin]

    LRU = "lru", 0, "the least recently used", False, _LeastRecent
    PLRU = "plru", 1, "the one that a binary tree points at", True, _Tree
    RANDOM = "random", 2, "any one (seeded)", False, _Random

    # The defaults are for calls with a name alone, which find a member: Replacement("lru").
    def __new__(
        cls,
        name: str,
        number: int = -1,
        words: str = "",
        marks: bool = False,
        twin: type[SetTwin] = _LeastRecent,
    ) -> "Replacement":
        member = str.__new__(cls, name)
        member._value_ = name
        if number < 0 or number in (one.number for one in cls):
            raise ValueError(f"Replacement {name!r} has number {number}: give one of its own, from 0 on")
        member.number, member.words, member.marks, member.twin = number, words, marks, twin
        return member
