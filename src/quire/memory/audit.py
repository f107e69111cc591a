"""The audit of a pool: a proof from the records alone that every frame has exactly one owner and nothing is
lost.

Models: the invariants of ``Pool``, each checked from the per-frame records and not from the counters that the
pool keeps as it goes. Does not model: what frames contain (the next allocation of a frame verifies that).
Fails: InternalError with the frame and both values of the first invariant that does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quire.errors import InternalError
from quire.memory.blocks import BuddyBlocks
from quire.memory.layout import FREE, MAX_ORDER, ORDER_COUNT, ORDER_MASK, TAKEN, Content, Count
from quire.memory.owner import FREE_ID, Owner, OwnerKind, OwnerTable


@dataclass(frozen=True, slots=True)
class PoolRecords:
    """All records of one pool, by reference. Frame ``index`` is frame number ``base_hfn + index``."""

    base_hfn: int
    first: int
    end: int
    blocks: BuddyBlocks
    owner_ids: npt.NDArray[np.uint16]
    states: npt.NDArray[np.uint8]
    owners: OwnerTable
    caches: tuple[tuple[Owner, tuple[int, ...]], ...]
    claimed: int


def audit(records: PoolRecords) -> None:
    """Prove the invariants of a pool or raise InternalError at the first that fails. Changes nothing.

    Blocks tile the range, aligned; owners change only at blocks and agree with the heads; contents agree with
    the owners; each level of the bitmaps equals what the free heads say; no two free buddies; caches hold
    exactly the frames that are theirs; claims are not more than what is free; all counters equal what the
    records add up to.
    """
    heads = records.blocks.heads
    starts = np.flatnonzero(heads)
    tags = heads[starts]
    orders = (tags & ORDER_MASK).astype(np.int64)
    free = (tags & FREE) != 0
    _audit_tiling(records, starts, tags, orders)
    _audit_owners(records, starts, free)
    _audit_contents(records)
    _audit_bitmaps(records, starts, orders, free)
    _audit_caches(records)
    _audit_counts(records, starts, orders, free)


# Each frame of the range is in exactly one block, and each block is aligned to its size.
def _audit_tiling(
    records: PoolRecords,
    starts: npt.NDArray[np.int64],
    tags: npt.NDArray[np.uint8],
    orders: npt.NDArray[np.int64],
) -> None:
    known = (tags ^ np.where(tags & FREE, FREE, TAKEN).astype(np.uint8)) <= MAX_ORDER
    if not known.all():
        at = int(np.argmin(known))
        raise _broken(records, int(starts[at]), f"has the unknown block tag {int(tags[at]):#x}")
    sizes = np.left_shift(1, orders)
    expected = np.concatenate(([records.first], starts + sizes))
    actual = np.concatenate((starts, [records.end]))
    if not np.array_equal(expected, actual):
        at = int(np.argmax(expected != actual))
        raise _broken(
            records,
            int(actual[at]),
            f"starts a block, but the block before it ends at {records.base_hfn + int(expected[at]):#x}",
        )
    misaligned = starts & (sizes - 1)
    if misaligned.any():
        at = int(np.argmax(misaligned != 0))
        raise _broken(
            records, int(starts[at]), f"starts a block of order {int(orders[at])} but is not aligned to it"
        )


# Every frame has the owner of its block, a registered one, and only free blocks are owned by nobody.
def _audit_owners(records: PoolRecords, starts: npt.NDArray[np.int64], free: npt.NDArray[np.bool_]) -> None:
    ids = records.owner_ids
    changes = np.flatnonzero(ids[records.first + 1 : records.end] != ids[records.first : records.end - 1])
    changes += records.first + 1
    inside = changes[records.blocks.heads[changes] == 0]
    if inside.size:
        at = int(inside[0])
        raise _broken(
            records,
            at,
            f"has owner {int(ids[at]):#x}, the frame before it in its block {int(ids[at - 1]):#x}",
        )
    block_ids = ids[starts]
    wrong = (block_ids == FREE_ID) != free
    if wrong.any():
        at = int(np.argmax(wrong))
        word = "a free" if free[at] else "an allocated"
        raise _broken(records, int(starts[at]), f"starts {word} block and has owner {int(block_ids[at]):#x}")
    if int(block_ids.max()) >= len(records.owners):
        at = int(np.argmax(block_ids))
        raise _broken(records, int(starts[at]), f"has the unregistered owner {int(block_ids[at]):#x}")


# Contents are LIVE in exactly the frames that somebody owns, caches apart.
def _audit_contents(records: PoolRecords) -> None:
    states = records.states[records.first : records.end]
    ids = records.owner_ids[records.first : records.end]
    cached = np.array(
        [
            owner_id
            for owner_id in range(len(records.owners))
            if records.owners.lookup(owner_id).kind is OwnerKind.CACHED
        ],
        np.uint16,
    )
    nobody = ids == FREE_ID
    if cached.size:
        nobody |= np.isin(ids, cached)
    wrong = (states == Content.LIVE) == nobody
    if wrong.any():
        at = int(np.argmax(wrong))
        raise _broken(
            records,
            records.first + at,
            f"has contents {Content(int(states[at])).name} and owner {int(ids[at]):#x}",
        )


# Each level of each bitmap says what the heads say, and no free block has a free buddy of its size.
def _audit_bitmaps(
    records: PoolRecords,
    starts: npt.NDArray[np.int64],
    orders: npt.NDArray[np.int64],
    free: npt.NDArray[np.bool_],
) -> None:
    expected, counted = [], records.blocks.free_blocks()
    for order in range(ORDER_COUNT):
        blocks = starts[free & (orders == order)]
        if blocks.size != counted[order]:
            raise InternalError(
                f"pool audit: {blocks.size} blocks of order {order} are free, but {counted[order]} are counted."
            )
        if not blocks.size:
            continue
        bits = blocks >> order
        for start in records.blocks.bitmap(order):
            expected.append(bits + start)
            bits = np.unique(bits >> 6)
        if order < MAX_ORDER:
            pairs = blocks[records.blocks.heads[blocks ^ (1 << order)] == FREE | order]
            if pairs.size:
                raise _broken(
                    records, int(pairs[0]), f"and its buddy are free with order {order} and were not joined"
                )
    _compare_bits(records, np.concatenate([*expected, np.empty(0, np.int64)]))


def _compare_bits(records: PoolRecords, expected: npt.NDArray[np.int64]) -> None:
    actual = records.blocks.bits_set()
    if np.array_equal(expected, actual):
        return
    at = int(np.setxor1d(expected, actual)[0])
    says, other = (0, 1) if at in expected else (1, 0)
    start, order, level = max(
        (start, order, level)
        for order in range(ORDER_COUNT)
        for level, start in enumerate(records.blocks.bitmap(order))
        if start <= at
    )
    raise InternalError(
        f"pool audit: bit {at - start:#x} of level {level} of the bitmap of order {order} is {says}, "
        f"the records say {other}."
    )


# The frames on the stack of a cache are those that the records give to it.
def _audit_caches(records: PoolRecords) -> None:
    listed = dict(records.caches)
    for owner_id in range(len(records.owners)):
        owner = records.owners.lookup(owner_id)
        if owner.kind is not OwnerKind.CACHED:
            continue
        mine = np.flatnonzero(records.owner_ids[records.first : records.end] == owner_id)
        mine += records.first + records.base_hfn
        stack = sorted(listed.get(owner, ()))
        if mine.tolist() != stack:
            raise InternalError(
                f"pool audit: {owner} has {len(stack):#x} frames on its stack, the records give it "
                f"{mine.size:#x}, or other ones."
            )


# The counters that the pool keeps as it goes equal what the records add up to.
def _audit_counts(
    records: PoolRecords,
    starts: npt.NDArray[np.int64],
    orders: npt.NDArray[np.int64],
    free: npt.NDArray[np.bool_],
) -> None:
    by_kind, tally = [0] * len(OwnerKind), records.blocks.tally
    frames = np.bincount(
        records.owner_ids[starts], weights=np.left_shift(1, orders), minlength=len(records.owners)
    ).astype(np.int64)
    for owner_id in np.flatnonzero(frames).tolist():
        by_kind[records.owners.lookup(owner_id).kind] += int(frames[owner_id])
    used, peak = records.end - records.first - by_kind[FREE_ID], tally[Count.PEAK]
    if records.claimed > by_kind[FREE_ID]:
        raise InternalError(
            f"pool audit: claims hold {records.claimed:#x} frames, only {by_kind[FREE_ID]:#x} are free."
        )
    for name, counted, actual in (
        ("frames by owner kind", tally[Count.KINDS : Count.KINDS + len(OwnerKind)].tolist(), by_kind),
        ("frames by owner", tally[Count.HELD : Count.HELD + len(records.owners)].tolist(), frames.tolist()),
        (
            "allocations less frees",
            tally[Count.ALLOCATIONS] - tally[Count.FREES],
            int(np.count_nonzero(~free)),
        ),
        (
            "initial blocks + splits - joins",
            tally[Count.INITIAL] + tally[Count.SPLITS] - tally[Count.JOINS],
            starts.size,
        ),
        ("the peak, if it were reached now", max(peak, used), peak),
    ):
        if counted != actual:
            raise InternalError(f"pool audit: {name} is {counted}, the records say {actual}.")


def _broken(records: PoolRecords, index: int, detail: str) -> InternalError:
    return InternalError(f"pool audit: frame {records.base_hfn + index:#x} {detail}.")
