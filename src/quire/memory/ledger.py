"""The ledger of a pool: the records of its frames and owners, which its caches, claims and refusals share with it.

Models: who has how many frames, which claims hold free ones, which caches keep some at hand, and what is said when
there is none left. Does not model: giving frames out and taking them back, which ``Pool`` does. Fails: as ``Pool``
says; the requests that it refuses are those of ``request.py``.
"""

from __future__ import annotations

from typing import Final, Protocol

from quire.memory.blocks import BuddyBlocks
from quire.memory.contents import Contents
from quire.memory.exhaustion import OutOfFrames
from quire.memory.host import HostMemory
from quire.memory.layout import MAX_ORDER, Count
from quire.memory.owner import FREE_ID, Owner, OwnerKind, OwnerTable
from quire.memory.request import check_range, refused_request

_HOLDERS_NAMED: Final = 3


class Reserve(Protocol):
    """Frames that are set aside without being chosen; ``left`` of them are not allocated yet."""

    left: int


class Store(Protocol):
    """Frames at hand that an exhausted pool takes back."""

    owner: Owner

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the frames, the one that goes back first in front."""
        ...

    def drain(self) -> int:
        """Give all frames back to the pool; return how many they were."""
        ...


class Ledger:
    """The records of the ``frame_count`` frames from ``first_hfn``; within the room ``_`` names are for all files.

    MisuseError for a range that a pool cannot have, BackendError for want of memory.
    """

    def __init__(self, first_hfn: int, frame_count: int, host: HostMemory | None, poison: bool) -> None:
        check_range(first_hfn, frame_count, host)
        self.first_hfn = first_hfn
        self.frame_count = frame_count
        self.owners = OwnerTable()
        # Indices count from a multiple of the largest block, so that an index is aligned when its frame is.
        self._base_hfn = first_hfn >> MAX_ORDER << MAX_ORDER
        self._first = first_hfn - self._base_hfn
        self._end = self._first + frame_count
        self._blocks = BuddyBlocks(self._base_hfn, self._first, self._end)
        self._contents = Contents(host, self._blocks, self._base_hfn, poison)
        self._kernels = self._blocks.kernels
        self._records, self._tally = self._blocks.records, self._blocks.tally
        self._owner_ids = self._blocks.ids
        self._ids = self._owner_ids.data
        self._last_owner: Owner | None = None
        self._last_id = self._last_kind = FREE_ID
        self._claims: list[Reserve] = []
        self._caches: list[Store] = []

    def frames_of(self, owner_kind: OwnerKind) -> int:
        """Return how many frames have owners of this kind; FREE gives the free frames."""
        return self._tally[Count.KINDS + owner_kind]

    @property
    def frames_claimed(self) -> int:
        """Free frames that open claims hold."""
        return sum(claim.left for claim in self._claims)

    # Check a request and note whose it is.
    def _identify(self, order: int, owner: Owner) -> tuple[int, int]:
        if not 0 <= order <= MAX_ORDER or owner.kind in (OwnerKind.FREE, OwnerKind.CACHED):
            raise refused_request(order, owner)
        self._last_id, self._last_owner = self.owners.register(owner), owner
        self._last_kind = int(owner.kind)
        return self._last_id, self._last_kind

    def _drain_caches(self) -> int:
        return sum(cache.drain() for cache in self._caches)

    def _exhausted(self, order: int, owner: Owner, own: int = 0, count: int = 1) -> OutOfFrames:
        """Return what to raise; `own` frames of those that claims hold are the asker's."""
        held = [
            (self._tally[Count.HELD + owner_id], self.owners.lookup(owner_id))
            for owner_id in range(1, len(self.owners))
        ]
        most = sorted(held, key=lambda one: -one[0])[:_HOLDERS_NAMED]
        return OutOfFrames(
            order,
            owner,
            self.frames_of(OwnerKind.FREE),
            self._blocks.largest_free_order(),
            tuple((of, frames) for frames, of in most if frames and of.kind is not OwnerKind.CACHED),
            self.frames_of(OwnerKind.CACHED),
            self.frames_claimed - own,
            count,
        )
