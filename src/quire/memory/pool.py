"""The pool: frames allocated to owners and freed by them, in blocks of 2**order frames.

Models: a range of frame numbers, each frame with exactly one owner at any time, and what free frames contain.
With host memory behind it the numbers are host frames; without, they are any frames (guest-physical ones,
say) and no memory is touched. Does not model: NUMA placement, concurrency (one thread at a time).

Fails: no block large enough is OutOfFrames, the environment's fault; a wrong argument is a MisuseError; a
frame written while free is UseAfterFree. Whatever is raised, the pool is as it was before the call.
"""

from __future__ import annotations

import operator
from typing import Final

import numpy as np

from quire import failpoints
from quire.errors import MisuseError
from quire.memory.audit import Ledger, audit
from quire.memory.blocks import MAX_ORDER, ORDER_COUNT, TAKEN, BuddyBlocks
from quire.memory.contents import Contents, Fill
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.owner import FREE_ID, FREE_OWNER, Owner, OwnerKind, OwnerTable
from quire.memory.records import lazy_zeros
from quire.memory.statistics import PoolStatistics

MAX_HFN: Final = 1 << (52 - FRAME_SHIFT)  # 52 physical address bits


class OutOfFrames(MemoryError):
    """No free block is large enough.

    Data: ``order``, ``owner``, ``free_frames``, ``largest_free_order`` (None when nothing is free).
    """

    def __init__(self, order: int, owner: Owner, free_frames: int, largest_free_order: int | None) -> None:
        largest = (
            "" if largest_free_order is None else f", the largest free block has order {largest_free_order}"
        )
        super().__init__(
            f"no free block of order {order} ({1 << order:#x} frames) for {owner}: "
            f"{free_frames:#x} frames are free{largest}; free frames, ask for less or make the pool larger"
        )
        self.order, self.owner = order, owner
        self.free_frames, self.largest_free_order = free_frames, largest_free_order

    def __reduce__(self) -> tuple[type[OutOfFrames], tuple[int, Owner, int, int | None]]:
        return OutOfFrames, (self.order, self.owner, self.free_frames, self.largest_free_order)


class Pool:
    """The ``frame_count`` frames from ``first_hfn``, at first all free; any count, not only powers of two.

    Blocks are aligned to their size by frame number, so an order-9 block can be a 2 MiB page. ``host`` None
    makes the pool a pure allocator of numbers. MisuseError when the range is empty, beyond 52 address bits,
    outside ``host``, or already contains data (frames of one range belong to one pool); BackendError for want
    of memory.
    """

    def __init__(
        self, first_hfn: int, frame_count: int, host: HostMemory | None = None, poison: bool = True
    ) -> None:
        _check_range(first_hfn, frame_count, host)
        self.first_hfn = first_hfn
        self.frame_count = frame_count
        self.owners = OwnerTable()
        # Indices count from a multiple of the largest block, so that an index is aligned when its frame is.
        self._base_hfn = first_hfn >> MAX_ORDER << MAX_ORDER
        self._first = first_hfn - self._base_hfn
        self._end = self._first + frame_count
        self._blocks = BuddyBlocks(self._first, self._end)
        self._contents = Contents(host, self._base_hfn, self._end, poison)
        self._owner_ids = lazy_zeros(self._end, np.uint16)
        self._ids = self._owner_ids.data
        self._heads = self._blocks.heads.data
        self._frames_by_kind = [0] * len(OwnerKind)
        self._frames_by_kind[OwnerKind.FREE] = frame_count
        self._peak = 0
        self._allocations = 0
        self._last_owner, self._last_id, self._last_kind = FREE_OWNER, FREE_ID, FREE_ID
        self._frees = 0

    def allocate(self, order: int, owner: Owner, fill: Fill = Fill.POISON) -> int:
        """Give ``owner`` a block of 2**order frames, aligned to its size; return its first frame number.

        The smallest block that suffices, and of those the one at the lowest address. Contents: see ``Fill``;
        large blocks (order >= 9) are zero either way (unless ``poison`` is off). OutOfFrames when nothing
        fits; UseAfterFree when a frame of the block was written while free; MisuseError for an order outside
        0 to 18 or an owner of kind FREE.
        """
        if type(order) is not int:
            order = operator.index(order)
        if (
            owner is not self._last_owner
        ):  # it nearly always is: spares a hash, which the path of a fault notices
            self._last_id, self._last_owner = self.owners.register(owner), owner
            self._last_kind = int(owner.kind)
        owner_id, kind = self._last_id, self._last_kind
        if not owner_id or not 0 <= order <= MAX_ORDER:
            raise _bad_request(order, owner)
        blocks, counts = self._blocks, self._frames_by_kind
        if failpoints.armed is not None:
            failpoints.reach("allocate", lambda: self._exhausted(order, owner))
        place = blocks.find(order)
        if place is None:
            raise self._exhausted(order, owner)
        index, found = place
        self._contents.prepare(index, order, fill)
        blocks.take(index, found, order)
        frames = 1 << order
        if order == 0:
            self._ids[index] = owner_id
        else:
            self._owner_ids[index : index + frames] = owner_id
        counts[kind] += frames
        counts[FREE_ID] = free = counts[FREE_ID] - frames
        self._allocations += 1
        used = self.frame_count - free
        if used > self._peak:
            self._peak = used
        return self._base_hfn + index

    def free(self, hfn: int, order: int, owner: Owner) -> None:
        """Take back the block that ``allocate(order, owner)`` returned as ``hfn``; join it with free buddies.

        MisuseError, each with its own message: outside the pool, misaligned, never allocated, freed twice,
        inside a larger block, other order, other owner. Small blocks are poisoned, large ones discarded.
        """
        # A NumPy integer (from a table's entry) would spread through the free lists: take its value.
        hfn, order = operator.index(hfn), operator.index(order)
        index = hfn - self._base_hfn
        owner_id = self.owners.find(owner)
        if (
            not self._first <= index < self._end
            or not 0 <= order <= MAX_ORDER
            or self._heads[index] != TAKEN | order
            or self._ids[index] != owner_id
        ):
            raise self._bad_free(hfn, order, owner)
        self._contents.retire(index, order)
        self._blocks.put(index, order)
        frames = 1 << order
        if order == 0:
            self._ids[index] = FREE_ID
        else:
            self._owner_ids[index : index + frames] = FREE_ID
        self._frames_by_kind[owner.kind] -= frames
        self._frames_by_kind[FREE_ID] += frames
        self._frees += 1

    def divide(self, hfn: int, order: int, owner: Owner) -> None:
        """Turn an allocated block into single frames of the same owner, to be freed one by one.

        MisuseError as for ``free``.
        """
        index = operator.index(hfn) - self._base_hfn
        if not self._first <= index < self._end or self._heads[index] != TAKEN | order:
            raise self._bad_free(hfn, order, owner)
        if self._ids[index] != self.owners.find(owner):
            raise self._bad_free(hfn, order, owner)
        self._blocks.heads[index : index + (1 << order)] = TAKEN
        self._allocations += (1 << order) - 1
        self._blocks.splits += (1 << order) - 1

    def owner_of(self, hfn: int) -> Owner:
        """Return the owner of one frame, ``FREE_OWNER`` when it is free. MisuseError outside the pool."""
        hfn = operator.index(hfn)
        index = hfn - self._base_hfn
        if not self._first <= index < self._end:
            raise self._outside(hfn)
        return self.owners.lookup(self._ids[index])

    def frames_of(self, owner_kind: OwnerKind) -> int:
        """Return how many frames have owners of this kind; FREE gives the free frames."""
        return self._frames_by_kind[owner_kind]

    def audit(self) -> None:
        """Prove that the pool is consistent (see ``audit``); InternalError with the detail otherwise.

        Reads every record: a few milliseconds for each million frames. Does not read the frames themselves.
        """
        audit(
            Ledger(
                base_hfn=self._base_hfn,
                first=self._first,
                end=self._end,
                blocks=self._blocks,
                owner_ids=self._owner_ids,
                states=self._contents.states,
                owners=self.owners,
                frames_by_kind=tuple(self._frames_by_kind),
                peak=self._peak,
                live_blocks=self._allocations - self._frees,
            )
        )

    def statistics(self) -> PoolStatistics:
        """Return the counts as they are now. Costs microseconds: nothing is scanned."""
        return PoolStatistics(
            frames_total=self.frame_count,
            frames_free=self._frames_by_kind[FREE_ID],
            frames_peak=self._peak,
            allocations=self._allocations,
            frees=self._frees,
            splits=self._blocks.splits,
            joins=self._blocks.joins,
            frames_by_kind=tuple(self._frames_by_kind),
            free_blocks=tuple(self._blocks.free_blocks),
            largest_free_order=self._blocks.largest_free_order(),
        )

    def __repr__(self) -> str:
        return (
            f"<Pool of {self.frame_count:#x} frames from {self.first_hfn:#x}, "
            f"{self._frames_by_kind[FREE_ID]:#x} free>"
        )

    # Say which of the ways to misuse free() this is; called only when it is one of them.
    def _bad_free(self, hfn: int, order: int, owner: Owner) -> MisuseError:
        index = hfn - self._base_hfn
        if not self._first <= index < self._end:
            return self._outside(hfn)
        if not 0 <= order <= MAX_ORDER:
            return _bad_request(order, owner)
        if hfn & ((1 << order) - 1):
            return MisuseError(
                f"frame {hfn:#x} cannot start a block of order {order}: such blocks start at multiples of "
                f"{1 << order:#x}; pass the number that allocate() returned"
            )
        head, block_order, is_free = self._blocks.block_of(index)
        holder = self.owners.lookup(self._ids[index])
        if is_free and not self._contents.was_allocated(index):
            return MisuseError(
                f"frame {hfn:#x} was never allocated: {owner} can free only what allocate() returned"
            )
        if is_free:
            return MisuseError(
                f"frame {hfn:#x} is free already: {owner} frees it twice; forget the number after free()"
            )
        if head != index:
            return MisuseError(
                f"frame {hfn:#x} is inside the block of order {block_order} at {self._base_hfn + head:#x} "
                f"of {holder}: free the whole block by its first frame"
            )
        if block_order != order:
            return MisuseError(
                f"the block at frame {hfn:#x} of {holder} has order {block_order}, not {order}: "
                "free it with the order it was allocated with"
            )
        return MisuseError(f"frame {hfn:#x} belongs to {holder}, not to {owner}: only its owner may free it")

    def _exhausted(self, order: int, owner: Owner) -> OutOfFrames:
        free = self._frames_by_kind[FREE_ID]
        return OutOfFrames(order, owner, free, self._blocks.largest_free_order())

    def _outside(self, hfn: int) -> MisuseError:
        return MisuseError(
            f"frame {hfn:#x} is outside the pool of frames {self.first_hfn:#x} to "
            f"{self.first_hfn + self.frame_count - 1:#x}: ask the pool that allocated it"
        )


def _bad_request(order: int, owner: Owner) -> MisuseError:
    if not 0 <= order < ORDER_COUNT:
        return MisuseError(
            f"no block has order {order}: give 0 (one frame) to {MAX_ORDER} ({1 << MAX_ORDER:#x} frames)"
        )
    return MisuseError(f"{FREE_OWNER} cannot own frames: pass the Owner that will use and free the block")


def _check_range(first_hfn: int, frame_count: int, host: HostMemory | None) -> None:
    limit = MAX_HFN if host is None else host.frame_count
    if first_hfn < 0 or frame_count <= 0 or first_hfn + frame_count > limit:
        raise MisuseError(
            f"a pool cannot have {frame_count:#x} frames from {first_hfn:#x}: give at least one frame, "
            f"all below frame {limit:#x}"
        )
    if host is not None:
        hpa = host.find_data(first_hfn, frame_count)
        if hpa is not None:
            raise MisuseError(
                f"a pool must start empty, but hpa {hpa:#x} contains {host.load(hpa):#x}: "
                "discard() the frames first, or leave them out"
            )
