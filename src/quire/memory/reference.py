"""The slow twin of the pool's kernels: from the definition, with no splits, no joins and no bitmaps.

Models: which frame an allocation gets. The free blocks are worked out anew each time: the largest aligned blocks
all of whose frames are free, so that no two could be joined. An allocation takes the smallest that suffices, of
those the lowest. Does not model: what frames contain, counters, refusals. Fails: KeyError for a block that was
not allocated; None when nothing fits.
"""

from __future__ import annotations

from quire.memory.layout import MAX_ORDER
from quire.memory.owner import Owner

__all__ = ["ReferencePool"]


class ReferencePool:
    """``frame_count`` frames from ``first_hfn``: ``owners`` by frame (None is free), ``blocks`` allocated."""

    def __init__(self, first_hfn: int, frame_count: int) -> None:
        self.owners: dict[int, Owner | None] = dict.fromkeys(range(first_hfn, first_hfn + frame_count))
        self.blocks: dict[int, tuple[int, Owner]] = {}

    def free_blocks(self) -> list[tuple[int, int]]:
        """Return (order, first frame) of the free blocks as every possible join leaves them."""
        starts = {hfn for hfn, owner in self.owners.items() if owner is None}
        found = []
        for order in range(MAX_ORDER):
            pairs = {hfn for hfn in starts if not hfn >> order & 1 and hfn + (1 << order) in starts}
            found += [(order, hfn) for hfn in starts if hfn & ~(1 << order) not in pairs]
            starts = pairs
        return found + [(MAX_ORDER, hfn) for hfn in starts]

    def free_frames(self) -> int:
        """Return how many frames are free."""
        return sum(owner is None for owner in self.owners.values())

    def place(self, order: int) -> int | None:
        """Return where the next block of ``order`` will be, or None."""
        fitting = [block for block in self.free_blocks() if block[0] >= order]
        return min(fitting)[1] if fitting else None

    def allocate(self, order: int, owner: Owner) -> int | None:
        """Give a block to ``owner``; return its first frame, or None."""
        hfn = self.place(order)
        if hfn is not None:
            self.blocks[hfn] = order, owner
            self.owners.update(dict.fromkeys(range(hfn, hfn + (1 << order)), owner))
        return hfn

    def free(self, hfn: int) -> None:
        """Take the block at ``hfn`` back. KeyError when none starts there."""
        order, _ = self.blocks.pop(hfn)
        self.owners.update(dict.fromkeys(range(hfn, hfn + (1 << order))))
