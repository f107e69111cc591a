"""Runs of pages: neighbours that map neighbouring frames alike, and what is wrong between runs.

Everything is done on arrays, because a guest of 64 GiB has 16 million pages.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.arch import MemoryType

__all__ = ["Runs", "aliases", "holes", "outside"]

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
_GUARD = np.uint64(2 << 20)  # a longer gap divides regions


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs as columns: first address, first frame's address, bytes, attribute bits, memory type (255: reserved)."""

    start: Words
    target: Words
    length: Words
    attributes: Words
    memory_type: Bytes

    @classmethod
    def joined(cls, parts: "Sequence[Runs]") -> "Runs":
        """Return all `parts` as one, by address, with runs joined that follow each other."""
        if not parts:
            empty = np.zeros(0, np.uint64)
            return cls(empty, empty, empty, empty, np.zeros(0, np.uint8))
        start = np.concatenate([part.start for part in parts])
        order = np.argsort(start, kind="stable")
        return cls(
            start[order],
            np.concatenate([part.target for part in parts])[order],
            np.concatenate([part.length for part in parts])[order],
            np.concatenate([part.attributes for part in parts])[order],
            np.concatenate([part.memory_type for part in parts])[order],
        ).merged()

    def merged(self) -> "Runs":
        """Return the runs with neighbours joined."""
        if len(self.start) < 2:
            return self
        same = self.start[1:] == self.start[:-1] + self.length[:-1]
        same &= self.target[1:] == self.target[:-1] + self.length[:-1]
        same &= (self.attributes[1:] == self.attributes[:-1]) & (
            self.memory_type[1:] == self.memory_type[:-1]
        )
        first = np.flatnonzero(np.concatenate(([True], ~same)))
        length = np.add.reduceat(self.length, first)
        return Runs(
            self.start[first], self.target[first], length, self.attributes[first], self.memory_type[first]
        )


def holes(runs: Runs) -> Iterator[tuple[int, int]]:
    """Yield first address and end of each short gap that the frames on both sides leave out just so."""
    if len(runs.start) < 2:
        return
    end = runs.start[:-1] + runs.length[:-1]
    gap = runs.start[1:] - end
    frames = runs.target[1:] - (runs.target[:-1] + runs.length[:-1])
    found = (gap == frames) & (gap > 0) & (gap <= _GUARD)
    found &= runs.attributes[1:] == runs.attributes[:-1]
    for n in np.flatnonzero(found):
        yield int(end[n]), int(runs.start[n + 1])


def outside(runs: Runs, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield cacheable pages that are not in one of the memory `ranges`: first address, end, first frame's address.

    Runs whose addresses follow each other are one.
    """
    starts, ends = _joined_ranges(ranges)
    at = np.searchsorted(starts, runs.target, side="right").astype(np.int64) - 1
    within = (at >= 0) & (runs.target + runs.length <= ends[np.maximum(at, 0)]) if len(starts) else at > 0
    cached = np.isin(runs.memory_type, [MemoryType.WB, MemoryType.WT, MemoryType.WP])
    found = np.flatnonzero(cached & ~within)
    if not len(found):
        return
    first, end = runs.start[found], runs.start[found] + runs.length[found]
    heads = np.flatnonzero(np.concatenate(([True], first[1:] != end[:-1])))
    tails = np.concatenate((heads[1:], [len(found)])) - 1
    for head, tail in zip(heads, tails, strict=True):
        yield int(first[head]), int(end[tail]), int(runs.target[found[head]])


def _joined_ranges(ranges: Sequence[tuple[int, int]]) -> tuple[Words, Words]:
    joined: list[list[int]] = []
    for start, length in ranges:
        if joined and joined[-1][1] >= start:
            joined[-1][1] = max(joined[-1][1], start + length)
        else:
            joined.append([start, start + length])
    columns = np.array(joined, np.uint64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def aliases(runs: Runs, report: Callable[[int, int, int, int], None]) -> None:
    """Call `report` (run, run, first address, end of the frames) for frames that two runs map with other types."""
    if len(runs.start) < 2:
        return
    order = np.argsort(runs.target, kind="stable")
    target, length = runs.target[order], runs.length[order]
    types = runs.memory_type[order]
    end = np.maximum.accumulate(target + length)
    first = np.flatnonzero(np.concatenate(([True], target[1:] >= end[:-1])))
    differ = np.minimum.reduceat(types, first) != np.maximum.reduceat(types, first)
    last = np.concatenate((first[1:], [len(target)]))
    for cluster in np.flatnonzero(differ):
        reach: dict[int, tuple[int, int]] = {}  # memory type: end and number of the run that reaches furthest
        for n in range(int(first[cluster]), int(last[cluster])):
            here, stop, kind = int(target[n]), int(target[n] + length[n]), int(types[n])
            for other, (other_end, m) in reach.items():
                if other != kind and other_end > here:
                    report(int(order[m]), int(order[n]), here, min(stop, other_end))
            if stop > reach.get(kind, (0, 0))[0]:
                reach[kind] = stop, n
