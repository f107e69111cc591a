"""The buddy system: free blocks of 2**order frames, split and joined. Pure numbers; no memory, no owners.

Models: which blocks exist, which are free. A frame is an *index*: its number less the pool's base, the base
being a multiple of the largest block, so that alignment of indices is alignment of frame numbers and the
buddy of a block is ``index ^ (1 << order)``. Does not model: why a block is taken. Fails: never; ``find``
gives None when nothing fits. Callers pass only what ``find`` returned and what they took: ``Pool`` checks,
this file does not.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

import numpy as np
import numpy.typing as npt

from quire.memory.records import lazy_zeros

MAX_ORDER: Final = 18  # 2**18 frames of 4 KiB: 1 GiB, the largest x86-64 page
ORDER_COUNT: Final = MAX_ORDER + 1

# One byte for each frame: 0 inside a block, else the block that starts here.
TAKEN: Final = 0x40  # | order
FREE: Final = 0x80  # | order
ORDER_MASK: Final = 0x1F

_STALE_SLACK: Final = 4096


class BuddyBlocks:
    """The frames with index ``first`` to ``end - 1`` as blocks of order 0 to 18, at first all free.

    Each order has a heap of the blocks that were made free; a block that is joined or taken stays there as a
    stale entry (its head byte tells) until it comes to the top or too many entries are stale. That
    makes a join one comparison and two stores, which is what a page-fault path repeats most.
    """

    def __init__(self, first: int, end: int) -> None:
        whole = 1 << MAX_ORDER
        # Rounded up to whole blocks: a buddy beyond the end is then a byte that is never FREE, without a
        # compare. Zeros are not touched, so a pool of any size costs only the heads that it uses.
        self.heads: npt.NDArray[np.uint8] = lazy_zeros((end + whole - 1) & -whole, np.uint8)
        self._heads = self.heads.data
        self._heaps: list[list[int]] = [[] for _ in range(ORDER_COUNT)]
        self.free_blocks = [0] * ORDER_COUNT
        self.initial_blocks = 0
        self.splits = 0
        self.joins = 0
        self._stale = 0
        self._stale_limit = _STALE_SLACK
        while first < end:
            order = min(MAX_ORDER, (end - first).bit_length() - 1)
            if first:
                order = min(order, (first & -first).bit_length() - 1)
            self._heads[first] = FREE | order
            self._heaps[order].append(first)
            self.free_blocks[order] += 1
            self.initial_blocks += 1
            first += 1 << order

    def find(self, order: int) -> tuple[int, int] | None:
        """Return (index, order) of the free block to take ``order`` from, or None. Changes nothing visible.

        The smallest sufficient order keeps large blocks whole; within it, the lowest address.
        """
        free_blocks = self.free_blocks
        for found in range(order, ORDER_COUNT):
            if free_blocks[found]:
                heads, heap, tag = self._heads, self._heaps[found], FREE | found
                while heads[heap[0]] != tag:
                    heappop(heap)
                return heap[0], found
        return None

    def take(self, index: int, found: int, order: int) -> None:
        """Take the first 2**order frames of the free block that ``find`` returned; split off the rest."""
        heads, heaps, free_blocks = self._heads, self._heaps, self.free_blocks
        heappop(heaps[found])
        free_blocks[found] -= 1
        self.splits += found - order
        while found > order:
            found -= 1
            buddy = index | 1 << found
            heads[buddy] = FREE | found
            free_blocks[found] += 1
            heappush(heaps[found], buddy)
        heads[index] = TAKEN | order

    def put(self, index: int, order: int) -> None:
        """Make a taken block free and join it with its free buddies as far as they go."""
        heads, free_blocks = self._heads, self.free_blocks
        heads[index] = 0
        joins = -order
        while order < MAX_ORDER:
            buddy = index ^ 1 << order
            if heads[buddy] != FREE | order:
                break
            heads[buddy] = 0
            free_blocks[order] -= 1
            index &= buddy
            order += 1
        heads[index] = FREE | order
        free_blocks[order] += 1
        heappush(self._heaps[order], index)
        joins += order
        self.joins += joins
        self._stale += joins
        if self._stale > self._stale_limit:
            self._compact()

    def largest_free_order(self) -> int | None:
        """Return the order of the largest free block, or None when nothing is free."""
        for order in range(MAX_ORDER, -1, -1):
            if self.free_blocks[order]:
                return order
        return None

    def block_of(self, index: int) -> tuple[int, int, bool]:
        """Return (first index, order, free) of the block that contains ``index`` (of the pool)."""
        head, order = index, 0
        while not (tag := self._heads[head]):
            # No head here: the block starts at or below the next coarser boundary.
            order += 1
            head = index >> order << order
        return head, tag & ORDER_MASK, bool(tag & FREE)

    def listed(self, order: int) -> list[int]:
        """Return the indices of the free blocks of ``order`` in the heap, lowest first."""
        heads, tag = self._heads, FREE | order
        return sorted({index for index in self._heaps[order] if heads[index] == tag})

    # Drop the stale entries of all heaps. It happens when the joins since the last time outnumber the blocks
    # that were free then: the cost for each join stays constant, and so does the share of stale entries.
    def _compact(self) -> None:
        for order, count in enumerate(self.free_blocks):
            self._heaps[order] = self.listed(order) if count else []  # a sorted list is a heap
        self._stale = 0
        self._stale_limit = max(_STALE_SLACK, sum(self.free_blocks))
