"""Caches of single frames: one for each vCPU, filled from a pool and emptied into it in batches.

Models: Linux's per-CPU page lists: a stack, so that the frame freed last (warm in the processor's cache) is
given out first; a batch from the pool when it is empty, a batch back, coldest first, when it is too high.
Does not model: concurrency. Fails: as ``Pool.allocate`` and ``Pool.free`` do; MisuseError when it is closed.
"""

from __future__ import annotations

import operator
from types import TracebackType
from typing import Final, Self

import numpy as np

from quire import failpoints
from quire.errors import MisuseError
from quire.memory.contents import Fill
from quire.memory.layout import Step
from quire.memory.ledger import Ledger
from quire.memory.owner import Owner, OwnerKind
from quire.memory.refusal import refused_free

BATCH: Final = 64
HIGH: Final = 256
_REFUSED, _LOOK = int(Step.REFUSED), int(Step.LOOK)
_CACHED: Final = int(OwnerKind.CACHED)


class FrameCache:
    """A bounded stack of frames of ``pool`` that belong to ``Owner(CACHED, name)`` until somebody needs them.

    ``batch`` frames go to and from the pool at a time, at most ``high`` stay here. Frames in a cache are poisoned
    or holes, as free ones are, and checked when they are given out. An exhausted pool drains its caches. A context
    manager: closing gives all frames back. MisuseError unless 1 <= batch <= high, and for a second cache of a name.
    """

    def __init__(self, pool: Ledger, name: str, batch: int = BATCH, high: int = HIGH) -> None:
        if not 1 <= batch <= high:
            raise MisuseError(
                f"a cache cannot have batches of {batch:#x} frames and at most {high:#x}: "
                "give at least 0x1, and no batch larger than the cache"
            )
        self.owner = Owner(OwnerKind.CACHED, name)
        if any(cache.owner == self.owner for cache in pool._caches):
            raise MisuseError(f"{pool!r} has a cache {name!r} already: give each cache a name of its own")
        self.batch, self.high = batch, high
        self._pool = pool
        self._id = pool.owners.register(self.owner)
        self._stack: list[int] = []
        self._open = True
        pool._caches.append(self)

    def allocate(self, owner: Owner, fill: Fill = Fill.POISON) -> int:
        """Give ``owner`` one frame; return its number. OutOfFrames, UseAfterFree as for ``Pool.allocate``.

        MisuseError for an owner of kind FREE, or when the cache is closed.
        """
        self._check_open()
        pool = self._pool
        if owner is pool._last_owner:
            owner_id, kind = pool._last_id, pool._last_kind
        else:
            owner_id, kind = pool._identify(0, owner)
        if not self._stack:
            self._refill(owner)
        hfn = self._stack[-1]
        contents, kernels, records = pool._contents, pool._blocks.batches, pool._records
        way = contents.way_zero if fill is Fill.ZERO else contents.way_poison
        places = (self._id, _CACHED, owner_id, kind)
        if kernels.hand_out(records, contents.backing.words, hfn, *places, way) == _LOOK:
            contents.prepare(hfn - pool._base_hfn, 0, fill)
            kernels.give(records, hfn - pool._base_hfn, *places)
        self._stack.pop()
        return hfn

    def free(self, hfn: int, owner: Owner) -> None:
        """Take one frame back from its owner. MisuseError as for ``Pool.free``, or when the cache is closed."""
        self._check_open()
        hfn, pool = operator.index(hfn), self._pool
        owner_id, contents = pool.owners.find(owner), pool._contents
        done = _REFUSED
        if owner_id and pool.first_hfn <= hfn < pool.first_hfn + pool.frame_count and owner.kind != _CACHED:
            places = (self._id, _CACHED, owner_id, int(owner.kind))
            done = pool._blocks.batches.hand_in(
                pool._records, contents.backing.words, hfn, *places, contents.way_poison
            )
        if done == _REFUSED:
            raise refused_free(pool, hfn, 0, owner)
        if done == _LOOK:  # the memory is closed, which this says
            contents.retire(hfn - pool._base_hfn, 0)
        self._stack.append(hfn)
        if len(self._stack) > self.high:
            self._give_back(self.batch)

    def drain(self) -> int:
        """Give all frames back to the pool; return how many they were."""
        count = len(self._stack)
        if count:
            self._give_back(count)
        return count

    def close(self) -> None:
        """Drain the cache and take it off the pool's list; may be repeated."""
        if self._open:
            self.drain()
            self._pool._caches.remove(self)
            self._open = False

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the frames in the cache, the one that goes back first in front."""
        return tuple(self._stack)

    def __len__(self) -> int:
        return len(self._stack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FrameCache {self.owner.name!r} of {len(self._stack):#x} frames, at most {self.high:#x}>"

    # Take a batch, or what there is of it without touching what is claimed.
    def _refill(self, owner: Owner) -> None:
        pool = self._pool
        count = min(self.batch, pool.frames_of(OwnerKind.FREE) - pool.frames_claimed)
        if failpoints.armed is not None:
            failpoints.reach("refill a cache", lambda: pool._exhausted(0, owner))
        if count <= 0:
            pool._drain_caches()
            count = min(self.batch, pool.frames_of(OwnerKind.FREE) - pool.frames_claimed)
        if count <= 0:
            raise pool._exhausted(0, owner)
        hfns = np.empty(count, np.uint64)
        pool._blocks.batches.take_many(pool._records, 0, self._id, _CACHED, hfns)
        self._stack = hfns[::-1].tolist()  # the lowest is given out first

    def _give_back(self, count: int) -> None:
        pool, hfns = self._pool, np.array(self._stack[:count], np.uint64)
        pool._blocks.batches.put_many(pool._records, 0, self._id, _CACHED, hfns)
        del self._stack[:count]

    def _check_open(self) -> None:
        if not self._open:
            raise MisuseError(f"the cache {self.owner.name!r} is closed: make another, or ask the pool")
