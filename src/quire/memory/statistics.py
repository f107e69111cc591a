"""The counts of a pool at one moment, as a plain record for reports and benchmarks.

Models: what `quire` prints about memory. Does not model: change over time (subtract two records). Fails:
never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire.memory.owner import OwnerKind


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The counts of one pool. Frames are 4 KiB; ``allocations`` to ``joins`` count since the pool was made.

    ``frames_by_kind`` is indexed by ``OwnerKind`` (FREE included), ``free_blocks`` by order. ``frames_peak``
    is the most frames that were allocated at one time. ``largest_free_order`` is None when nothing is free.
    ``frames_claimed`` of the free frames are held by claims.
    """

    frames_total: int
    frames_free: int
    frames_peak: int
    allocations: int
    frees: int
    splits: int
    joins: int
    frames_by_kind: tuple[int, ...]
    free_blocks: tuple[int, ...]
    largest_free_order: int | None
    frames_claimed: int = 0

    @property
    def frames_cached(self) -> int:
        """Frames in caches: taken from the pool, and nobody's yet."""
        return self.frames_by_kind[OwnerKind.CACHED]

    @property
    def free_frames_by_order(self) -> tuple[int, ...]:
        """Frames in the free blocks of each order."""
        return tuple(count << order for order, count in enumerate(self.free_blocks))

    @property
    def unusable(self) -> tuple[float, ...]:
        """By order, the share of the free frames that cannot serve an allocation of it: 0.0 none, 1.0 all.

        Linux's unusable free space index (mm/vmstat.c); as there, it is 1.0 when nothing is free.
        """
        if not self.frames_free:
            return (1.0,) * len(self.free_blocks)
        by_order = self.free_frames_by_order
        return tuple(sum(by_order[:order]) / self.frames_free for order in range(len(by_order)))

    @classmethod
    def sum(cls, parts: Sequence[PoolStatistics]) -> PoolStatistics:
        """Return the counts of several pools together; the peak is the sum of theirs."""
        orders = [one.largest_free_order for one in parts if one.largest_free_order is not None]
        return cls(
            frames_total=sum(one.frames_total for one in parts),
            frames_free=sum(one.frames_free for one in parts),
            frames_peak=sum(one.frames_peak for one in parts),
            allocations=sum(one.allocations for one in parts),
            frees=sum(one.frees for one in parts),
            splits=sum(one.splits for one in parts),
            joins=sum(one.joins for one in parts),
            frames_by_kind=tuple(map(sum, zip(*(one.frames_by_kind for one in parts), strict=True))),
            free_blocks=tuple(map(sum, zip(*(one.free_blocks for one in parts), strict=True))),
            largest_free_order=max(orders, default=None),
            frames_claimed=sum(one.frames_claimed for one in parts),
        )

    @property
    def frames_used(self) -> int:
        """Frames allocated now."""
        return self.frames_total - self.frames_free

    @property
    def largest_free_frames(self) -> int:
        """Frames in the largest free block; 0 when nothing is free."""
        return 0 if self.largest_free_order is None else 1 << self.largest_free_order

    @property
    def fragmentation(self) -> float:
        """1 - largest free block / free frames: 0.0 when one block holds all that is free, or nothing is
        free.

        A pool larger than one block of order 18 (1 GiB) is never below 1 - 1 GiB / free memory.
        """
        return 1.0 - self.largest_free_frames / self.frames_free if self.frames_free else 0.0
