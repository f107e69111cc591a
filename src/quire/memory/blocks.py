"""The buddy system: free blocks of 2**order frames, split and joined. Pure numbers; no memory, no owners.

Models: which blocks exist, which are free; the arrays are those of ``layout``, what changes them is in
``_kernels_buddy.py``. Does not model: why a block is taken. Fails: BackendError when the arrays cannot be mapped.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from quire.memory.layout import (
    COUNTS,
    FREE,
    LEVELS,
    MAX_ORDER,
    ORDER_COUNT,
    ORDER_MASK,
    Count,
)
from quire.memory.records import lazy_zeros


class BuddyBlocks:
    """The frames with index ``first`` to ``end - 1`` as blocks of order 0 to 18, at first all free.

    ``base_hfn`` is the frame number of index 0. Every array costs only what is written to it, so a pool of any
    size costs only what it uses.
    """

    def __init__(self, base_hfn: int, first: int, end: int) -> None:
        # The compiler is loaded when the first pool is made, not when quire.memory is imported.
        from quire.memory import _kernels

        self.kernels: Any = _kernels
        bits, end_of_bits = _lay_out(end)
        # Heads are rounded up to whole blocks: a buddy beyond the end is then a byte that is never FREE, without a
        # compare.
        whole = 1 << MAX_ORDER
        heads_at = COUNTS
        states_at = heads_at + ((end + whole - 1) & -whole) // 8
        ids_at = states_at + (end + 7) // 8
        bits_at = ids_at + (end + 3) // 4
        self.records: npt.NDArray[np.uint64] = lazy_zeros(bits_at + end_of_bits, np.uint64)
        self.counts = self.records[:COUNTS].view(np.int64)
        self.heads = self.records[heads_at:states_at].view(np.uint8)
        self.states = self.records[states_at:ids_at].view(np.uint8)[:end]
        self.ids = self.records[ids_at:bits_at].view(np.uint16)[:end]
        self.bits = self.records[bits_at:]
        self._heads = self.heads.data
        self.tally = tally = self.counts.data  # the same counts: a memoryview gives Python integers
        places = (heads_at, states_at, ids_at, bits_at, bits_at + end_of_bits)
        tally[Count.HEADS_AT : Count.RECORDS_END + 1] = np.array(places, np.int64).data
        for order, levels in enumerate(bits):
            tally[Count.HEIGHTS + order] = len(levels)
            at = Count.PLACES + order * LEVELS
            tally[at : at + len(levels)] = np.array(levels, np.int64).data
        tally[Count.BASE], tally[Count.FIRST], tally[Count.END] = base_hfn, first, end
        tally[Count.KINDS] = tally[Count.HELD] = end - first
        while first < end:
            order = min(MAX_ORDER, (end - first).bit_length() - 1)
            if first:
                order = min(order, (first & -first).bit_length() - 1)
            self._heads[first] = FREE | order
            self._note_free(first, order)
            tally[Count.INITIAL] += 1
            first += 1 << order

    @cached_property
    def batches(self) -> Any:
        """The kernels of batches, compiled when the first one is asked for."""
        from quire.memory import _kernels_batches

        return _kernels_batches

    def largest_free_order(self) -> int | None:
        """Return the order of the largest free block, or None when nothing is free."""
        for order in range(MAX_ORDER, -1, -1):
            if self.tally[Count.FREE_BLOCKS + order]:
                return order
        return None

    def free_blocks(self) -> list[int]:
        """Return how many blocks are free, by order."""
        return self.tally[Count.FREE_BLOCKS : Count.FREE_BLOCKS + ORDER_COUNT].tolist()

    def available(self, order: int) -> int:
        """Return how many blocks of ``order`` could be taken one after another."""
        return sum(
            count << found - order for found, count in enumerate(self.free_blocks()[order:], start=order)
        )

    def block_of(self, index: int) -> tuple[int, int, bool]:
        """Return (first index, order, free) of the block that contains ``index`` (of the pool)."""
        head, order = index, 0
        while not (tag := self._heads[head]):
            # No head here: the block starts at or below the next coarser boundary.
            order += 1
            head = index >> order << order
        return head, tag & ORDER_MASK, bool(tag & FREE)

    def bitmap(self, order: int) -> list[int]:
        """Return where each level of the bitmap of ``order`` begins, in bits of ``bits``; the last is one word."""
        at = Count.PLACES + order * LEVELS
        return [word * 64 for word in self.tally[at : at + self.tally[Count.HEIGHTS + order]].tolist()]

    def bits_set(self) -> npt.NDArray[np.int64]:
        """Return the numbers of all bits of ``bits`` that are set, lowest first."""
        filled = np.flatnonzero(self.bits)
        rows, at = np.nonzero(self.bits[filled, np.newaxis] >> np.arange(64, dtype=np.uint64) & np.uint64(1))
        found: npt.NDArray[np.int64] = filled[rows] * 64 + at
        return found

    # A first block, in every level of its bitmap: few, and no frame's owner is written as a kernel would.
    def _note_free(self, index: int, order: int) -> None:
        self.tally[Count.FREE_BLOCKS + order] += 1
        bit = index >> order
        for start in self.bitmap(order):
            self.bits[start // 64 + (bit >> 6)] |= np.uint64(1 << (bit & 63))
            bit >>= 6


# Return the first word of each level of each bitmap, and how many words they are.
def _lay_out(end: int) -> tuple[list[list[int]], int]:
    start = 0
    places: list[list[int]] = []
    for order in range(ORDER_COUNT):
        width = (end >> order) // 64 + 1
        levels: list[int] = []
        while not levels or width > 1:
            width = (width + 63) // 64 if levels else width
            levels.append(start)
            start += width
        places.append(levels)
    return places, start
