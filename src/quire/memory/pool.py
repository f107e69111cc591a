"""The pool: frames allocated to owners and freed by them, in blocks of 2**order frames.

Models: a range of frame numbers, each frame with exactly one owner at any time, and what free frames contain.
With host memory behind it the numbers are host frames; without, they are any frames (guest-physical ones,
say) and no memory is touched. Does not model: NUMA placement, concurrency (one thread at a time).

Fails: no block large enough is OutOfFrames, the environment's fault; a wrong argument is a MisuseError; a
frame written while free is UseAfterFree. Whatever is raised, the pool is as it was before the call, but that
an exhausted pool has drained its caches.
"""

from __future__ import annotations

import operator
from typing import Final

import numpy as np
import numpy.typing as npt

from quire import failpoints
from quire.errors import MisuseError
from quire.memory.audit import PoolRecords, audit
from quire.memory.claim import Claim
from quire.memory.contents import Fill
from quire.memory.host import HostMemory
from quire.memory.layout import MAX_ORDER, TAKEN, Count, Handling, Step
from quire.memory.ledger import Ledger
from quire.memory.owner import Owner, OwnerKind
from quire.memory.refusal import outside, refused_free
from quire.memory.request import block_numbers
from quire.memory.statistics import PoolStatistics

_EXHAUSTED, _LOOK, _REFUSED = int(Step.EXHAUSTED), int(Step.LOOK), int(Step.REFUSED)
_DONE, _ASK = int(Handling.DONE), int(Handling.ASK)
_CACHED: Final = int(OwnerKind.CACHED)
_ZERO: Final = Fill.ZERO


class Pool(Ledger):
    """The ``frame_count`` frames from ``first_hfn``, at first all free; any count, not only powers of two.

    Blocks are aligned to their size by frame number, so an order-9 block can be a 2 MiB page. ``host`` None
    makes the pool a pure allocator of numbers. MisuseError when the range is empty, beyond 52 address bits,
    outside ``host``, or already contains data (frames of one range belong to one pool); BackendError for want
    of memory.
    """

    def __init__(
        self, first_hfn: int, frame_count: int, host: HostMemory | None = None, poison: bool = True
    ) -> None:
        super().__init__(first_hfn, frame_count, host, poison)

    def allocate(self, order: int, owner: Owner, fill: Fill = Fill.POISON, claim: Claim | None = None) -> int:
        """Give ``owner`` a block of 2**order frames, aligned to its size; return its first frame number.

        The smallest block that suffices, and of those the one at the lowest address; frames that claims hold
        stay free, but ``claim`` is consumed. Contents: see ``Fill``; large blocks (order >= 9) are zero either
        way (unless ``poison`` is off). OutOfFrames when nothing fits; UseAfterFree when a frame of the block
        was written while free; MisuseError for an order outside 0 to 18, an owner of kind FREE, or a claim that
        is closed or on another pool.
        """
        if type(order) is not int:
            order = operator.index(order)
        # It nearly always is the last one: spares a hash, which the path of a fault notices.
        if owner is not self._last_owner or not 0 <= order <= MAX_ORDER:
            self._identify(order, owner)
        reserved = self._reserved(1 << order, claim) if self._claims or claim else 0
        if failpoints.armed is not None:
            failpoints.reach("allocate", lambda: self._exhausted(order, owner, _left(claim)))
        contents = self._contents
        done: int = self._kernels.allocate(
            self._records,
            contents.backing.words,
            order,
            self._last_id,
            self._last_kind,
            contents.way_zero if fill is _ZERO else contents.way_poison,
            reserved,
        )
        if done < 0:
            if done == _EXHAUSTED:
                if not self._drain_caches():
                    raise self._exhausted(order, owner, _left(claim))
                return self.allocate(order, owner, fill, claim)
            done = self._allocate_block(order, fill)
        if claim is not None:
            claim.left -= min(claim.left, 1 << order)
        return done

    def allocate_many(
        self, count: int, order: int, owner: Owner, fill: Fill = Fill.POISON, claim: Claim | None = None
    ) -> npt.NDArray[np.uint64]:
        """Give ``owner`` ``count`` blocks, those that as many calls of ``allocate`` would give, in that order.

        All or nothing. Exceptions as for ``allocate``; MisuseError for a negative count.
        """
        count, order = operator.index(count), operator.index(order)
        self._identify(order, owner)
        if count < 0:
            raise MisuseError(f"cannot allocate {count} blocks: give a count of 0 or more")
        reserved = self._reserved(count << order, claim)
        if not self._can_take(count, order, reserved) and not (
            self._drain_caches() and self._can_take(count, order, reserved)
        ):
            raise self._exhausted(order, owner, _left(claim), count)
        place = (order, self._last_id, self._last_kind)
        hfns = np.empty(count, np.uint64)
        before = self._tally[Count.SPLITS : Count.PEAK + 1].tolist()
        self._blocks.batches.take_many(self._records, *place, hfns)
        try:
            if failpoints.armed is not None:
                for _ in range(count):
                    failpoints.reach("allocate", lambda: self._exhausted(order, owner, _left(claim), count))
            self._contents.prepare_many(self._indices(hfns), order, fill)
        except BaseException:
            self._blocks.batches.put_many(self._records, *place, hfns)
            for at, value in enumerate(before, start=Count.SPLITS):
                self._tally[at] = value
            raise
        if claim is not None:
            claim.left -= min(claim.left, count << order)
        return hfns

    def free(self, hfn: int, order: int, owner: Owner) -> None:
        """Take back the block that ``allocate(order, owner)`` returned as ``hfn``; join it with free buddies.

        MisuseError, each with its own message: outside the pool, misaligned, never allocated, freed twice,
        inside a larger block, other order, other owner. Small blocks are poisoned, large ones discarded; one that
        the kernel refuses to discard is freed as it is.
        """
        # A NumPy integer (from a table's entry) has no place in a message: take its value.
        if type(hfn) is not int or type(order) is not int:
            hfn, order = operator.index(hfn), operator.index(order)
        index = hfn - self._base_hfn
        owner_id = self._last_id if owner is self._last_owner else self.owners.find(owner)
        kind = int(owner.kind)
        contents = self._contents
        if not self._first <= index < self._end or not owner_id or kind == _CACHED:
            raise refused_free(self, hfn, order, owner)
        done = _REFUSED
        if 0 <= order <= MAX_ORDER:
            who = (order, owner_id, kind)
            done = self._kernels.free(self._records, contents.backing.words, hfn, *who, contents.way_poison)
        if done == _REFUSED:
            raise refused_free(self, hfn, order, owner)
        if done == _LOOK:  # a large block, or the memory is closed, which this says
            contents.retire(index, order)
            self._kernels.free(self._records, self._records, hfn, *who, _DONE)

    def free_many(self, hfns: npt.ArrayLike, order: int, owner: Owner) -> None:
        """Take back blocks of one order and owner, in any order of their numbers. All or nothing.

        MisuseError as for ``free``, of the first that cannot be freed; a block that is named twice is "free
        already" the second time.
        """
        numbers = self.check_batch(hfns, order, owner)
        if not numbers.size:
            return
        owner_id = self.owners.find(owner)
        self._contents.retire_many(self._indices(numbers), order)
        self._blocks.batches.put_many(self._records, order, owner_id, int(owner.kind), numbers)

    def check_batch(self, hfns: npt.ArrayLike, order: int, owner: Owner) -> npt.NDArray[np.uint64]:
        """Return the numbers of blocks that ``free_many`` would take back; MisuseError as it raises."""
        order, numbers = operator.index(order), block_numbers(hfns)
        if not numbers.size:
            return numbers
        owner_id = self.owners.find(owner)
        if not owner_id or not 0 <= order <= MAX_ORDER or owner.kind == _CACHED:
            raise refused_free(self, int(numbers[0]), order, owner)
        bad = self._blocks.batches.first_foreign(self._records, order, owner_id, numbers)
        if bad >= 0:
            hfn = int(numbers[bad])
            if hfn in numbers[:bad].tolist():
                raise MisuseError(
                    f"frame {hfn:#x} is named twice, at {bad:#x} of the batch of {owner} again: "
                    "free each block once"
                )
            raise refused_free(self, hfn, order, owner)
        return numbers

    def claim(self, frames: int, owner: Owner) -> Claim:
        """Set ``frames`` frames aside for who passes the claim to ``allocate``, without choosing them.

        OutOfFrames when fewer are free and not claimed; MisuseError unless at least one is asked for.
        """
        frames = operator.index(frames)
        self._identify(0, owner)
        if frames < 1:
            raise MisuseError(f"cannot claim {frames} frames: give at least 1")
        if failpoints.armed is not None:
            failpoints.reach("claim", lambda: self._exhausted(0, owner, 0, frames))
        for _ in range(2):
            if frames <= self.frames_of(OwnerKind.FREE) - self.frames_claimed:
                made = Claim(self, frames, owner)
                self._claims.append(made)
                return made
            self._drain_caches()
        raise self._exhausted(0, owner, 0, frames)

    def divide(self, hfn: int, order: int, owner: Owner) -> None:
        """Turn an allocated block into single frames of the same owner, to be freed one by one.

        MisuseError as for ``free``.
        """
        index = operator.index(hfn) - self._base_hfn
        if not self._first <= index < self._end or self._blocks.heads[index] != TAKEN | order:
            raise refused_free(self, hfn, order, owner)
        if self._ids[index] != self.owners.find(owner):
            raise refused_free(self, hfn, order, owner)
        self._blocks.heads[index : index + (1 << order)] = TAKEN
        self._tally[Count.ALLOCATIONS] += (1 << order) - 1
        self._tally[Count.SPLITS] += (1 << order) - 1

    def trim(self, hfn: int, order: int, frames: int, owner: Owner) -> None:
        """Keep the first ``frames`` of an allocated block, as single frames, and free the rest of it.

        MisuseError as for ``free``, and unless there is a frame to keep and the block has so many.
        """
        index = operator.index(hfn) - self._base_hfn
        if not 1 <= frames <= 1 << order:
            raise MisuseError(
                f"cannot keep {frames:#x} frames of a block of order {order}: give 0x1 to {1 << order:#x}"
            )
        self.divide(hfn, order, owner)
        rest, end = index + frames, index + (1 << order)
        while rest < end:
            # The largest aligned block that begins here; the end is aligned, so it never goes beyond.
            part = (rest & -rest).bit_length() - 1
            joined = (1 << part) - 1
            self._blocks.heads[rest : rest + (1 << part)] = 0
            self._blocks.heads[rest] = TAKEN | part
            self._tally[Count.ALLOCATIONS] -= joined
            self._tally[Count.SPLITS] -= joined
            self.free_many([self._base_hfn + rest], part, owner)
            rest += 1 << part

    def owner_of(self, hfn: int) -> Owner:
        """Return the owner of one frame, ``FREE_OWNER`` when it is free. MisuseError outside the pool."""
        hfn = operator.index(hfn)
        index = hfn - self._base_hfn
        if not self._first <= index < self._end:
            raise outside(self, hfn)
        return self.owners.lookup(self._ids[index])

    def frames_held(self, owner_kind: OwnerKind) -> npt.NDArray[np.uint64]:
        """Return the numbers of the frames that have owners of this kind, lowest first. Reads every record."""
        owners = self.owners
        ids = [n for n in range(len(owners)) if owners.lookup(n).kind is owner_kind]
        within = self._owner_ids[self._first : self._end]
        held: npt.NDArray[np.uint64] = np.flatnonzero(np.isin(within, ids)).astype(np.uint64)
        return held + np.uint64(self.first_hfn)

    def room_for(self, count: int, order: int, claim: Claim | None = None) -> int:
        """Return how many of ``count`` blocks could be had now; caches are drained where that gives more."""
        if claim is not None:
            claim.check(self)
        own = _left(claim)
        for _ in range(2):
            frames = self.frames_of(OwnerKind.FREE) - self.frames_claimed + own
            room = min(count, frames >> order, self._blocks.available(order))
            if room == count or not self._drain_caches():
                break
        return room

    def audit(self) -> None:
        """Prove that the pool is consistent (see ``audit``); InternalError with the detail otherwise.

        Reads every record: a few milliseconds for each million frames. Does not read the frames themselves.
        """
        audit(
            PoolRecords(
                base_hfn=self._base_hfn,
                first=self._first,
                end=self._end,
                blocks=self._blocks,
                owner_ids=self._owner_ids,
                states=self._blocks.states,
                owners=self.owners,
                caches=tuple((cache.owner, cache.frames) for cache in self._caches),
                claimed=self.frames_claimed,
            )
        )

    def statistics(self) -> PoolStatistics:
        """Return the counts as they are now. Costs microseconds: nothing is scanned."""
        tally = self._tally
        return PoolStatistics(
            frames_total=self.frame_count,
            frames_free=tally[Count.KINDS],
            frames_peak=tally[Count.PEAK],
            allocations=tally[Count.ALLOCATIONS],
            frees=tally[Count.FREES],
            splits=tally[Count.SPLITS],
            joins=tally[Count.JOINS],
            frames_by_kind=tuple(tally[Count.KINDS : Count.KINDS + len(OwnerKind)].tolist()),
            free_blocks=tuple(self._blocks.free_blocks()),
            largest_free_order=self._blocks.largest_free_order(),
            frames_claimed=self.frames_claimed,
        )

    def __repr__(self) -> str:
        return (
            f"<Pool of {self.frame_count:#x} frames from {self.first_hfn:#x}, "
            f"{self._tally[Count.KINDS]:#x} free>"
        )

    # How many frames must stay free when so many are taken: what claims hold, less what this one consumes.
    def _reserved(self, frames: int, claim: Claim | None) -> int:
        if claim is None:
            return self.frames_claimed
        claim.check(self)
        return self.frames_claimed - min(claim.left, frames)

    def _can_take(self, count: int, order: int, reserved: int) -> bool:
        frames = count << order
        return self._tally[Count.KINDS] - frames >= reserved and self._blocks.available(order) >= count

    # A block whose contents Python proves and fills: a large one, or a frame that should be a hole.
    def _allocate_block(self, order: int, fill: Fill) -> int:
        who = (order, self._last_id, self._last_kind)
        hfn = int(self._kernels.allocate(self._records, self._records, *who, _ASK, 0))
        self._contents.prepare(hfn - self._base_hfn, order, fill)
        return int(self._kernels.allocate(self._records, self._records, *who, _DONE, 0))

    def _indices(self, hfns: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        return hfns.astype(np.int64) - self._base_hfn


def _left(claim: Claim | None) -> int:
    return 0 if claim is None else claim.left
