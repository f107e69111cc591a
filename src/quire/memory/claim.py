"""Claims: frames that are set aside without being chosen, so that a machine that is being built gets them all.

Models: what Xen's XENMEM_claim_pages does: a number of frames that others cannot take, consumed by the
claimer's own allocations. Does not model: where the frames are (a claim of 512 frames is no promise of a 2 MiB
block). Fails: MisuseError for a claim that is closed or another pool's.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from quire.errors import MisuseError
from quire.memory.ledger import Ledger
from quire.memory.owner import Owner


class Claim:
    """``frames`` of a pool set aside for whoever passes this claim to ``Pool.allocate``; made by ``Pool.claim``.

    ``left`` frames of it are not allocated yet. What its allocations take is counted off; more than the claim
    comes out of what is free for all. Frames that are freed do not come back to it. A context manager: closing
    gives up what is left.
    """

    def __init__(self, pool: Ledger, frames: int, owner: Owner) -> None:
        self.frames, self.owner, self.left = frames, owner, frames
        self._pool: Ledger | None = pool

    def check(self, pool: Ledger) -> None:
        """Raise MisuseError unless this is an open claim on `pool`."""
        if self._pool is None:
            raise MisuseError(
                f"the claim of {self.owner} is closed: allocate inside its with block, or without it"
            )
        if self._pool is not pool:
            raise MisuseError(
                f"the claim of {self.owner} is on {self._pool!r}, not on {pool!r}: claim frames of this pool"
            )

    def close(self) -> None:
        """Give up what is left; may be repeated."""
        if self._pool is not None:
            self._pool._claims.remove(self)
            self._pool = None
            self.left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Claim of {self.frames:#x} frames for {self.owner}, {self.left:#x} left>"
