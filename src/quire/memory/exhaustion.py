"""The exception of a pool that cannot give what was asked for, and who could help.

Models: the environment's fault, with what would free memory. Fails: never.
"""

from __future__ import annotations

from typing import Any

from quire.memory.owner import Owner

__all__ = ["OutOfFrames"]


class OutOfFrames(MemoryError):
    """No free block is large enough, or claims hold what is free.

    Data: ``order``, ``owner``, ``free_frames``, ``largest_free_order`` (None when nothing is free); ``holders``,
    the owners of most frames, each with how many; ``cached`` and ``claimed``, frames in caches and frames that
    claims of others hold; ``fitting_order``, the largest order that would have fitted (None when none would);
    ``count``, how many blocks were asked for.
    """

    def __init__(
        self,
        order: int,
        owner: Owner,
        free_frames: int,
        largest_free_order: int | None,
        holders: tuple[tuple[Owner, int], ...] = (),
        cached: int = 0,
        claimed: int = 0,
        count: int = 1,
    ) -> None:
        self.order, self.owner, self.count = order, owner, count
        self.free_frames, self.largest_free_order = free_frames, largest_free_order
        self.holders, self.cached, self.claimed = holders, cached, claimed
        self.fitting_order = self._fitting_order()
        super().__init__(self._message())

    # Claims hold frames without choosing them, so what they hold is any of the free ones.
    def _fitting_order(self) -> int | None:
        left = self.free_frames - self.claimed
        if self.largest_free_order is None or left <= 0:
            return None
        return min(self.largest_free_order, left.bit_length() - 1)

    def _message(self) -> str:
        wanted = f"no free block of order {self.order} ({1 << self.order:#x} frames)"
        if self.count != 1:
            wanted = (
                f"no {self.count:#x} free blocks of order {self.order} ({1 << self.order:#x} frames each)"
            )
        largest = (
            ""
            if self.largest_free_order is None
            else f", the largest free block has order {self.largest_free_order}"
        )
        facts = [f"{owner} holds {frames:#x} frames" for owner, frames in self.holders]
        if self.cached:
            facts.append(f"caches hold {self.cached:#x} frames")
        if self.claimed:
            facts.append(f"claims of others hold {self.claimed:#x} frames")
        if self.fitting_order is not None and self.fitting_order < self.order:
            facts.append(f"order {self.fitting_order} would fit")
        return (
            f"{wanted} for {self.owner}: {self.free_frames:#x} frames are free{largest}; "
            f"{''.join(fact + '; ' for fact in facts)}free frames, ask for less or make the pool larger"
        )

    def __reduce__(self) -> tuple[type[OutOfFrames], tuple[Any, ...]]:
        return OutOfFrames, (
            self.order,
            self.owner,
            self.free_frames,
            self.largest_free_order,
            self.holders,
            self.cached,
            self.claimed,
            self.count,
        )
