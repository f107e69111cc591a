"""Watched frames: tables that a ring-0 guest may write, so that each write is seen, one instruction at a time.

A frame is watched while a kept mapping was made from an entry in it. Its pages are given read-only; an instruction
that writes one is held back, runs alone with the right to write, and what it changed is noted.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from quire.arch import Access
from quire.observe.flushes.table_log import Actor, TableLog
from quire.paging import Dimension, Result, Rights, Status, WalkRecord
from quire.tlb.retained import Retained

__all__ = ["Watch", "Watched"]

_WRITE = int(Rights.WRITE)
_FLAGS = 0x60  # accessed and dirty: a walk of the same instruction may set them


class Watched:
    """What is watched in one machine, by all its vCPUs: frames, and the kept mappings that were made from them."""

    def __init__(self) -> None:
        self.frames: set[int] = set()
        self.watches: list[Watch] = []


class Watch:
    """The watched frames of one machine's memory `words`, as the fills of one vCPU meet them.

    `flush` drops what the engine of this vCPU holds; another vCPU calls it, while this one does not run.
    """

    def __init__(
        self,
        words: npt.NDArray[np.uint64],
        retained: Retained,
        log: TableLog,
        watched: Watched,
        flush: Callable[[], None],
    ) -> None:
        self.retained, self._flush = retained, flush
        self._words, self._log, self._watched = words, log, watched
        watched.watches.append(self)
        self._given: set[int] = set()  # frames that the engine may hold a right to write for
        self._open: dict[
            int, npt.NDArray[np.uint64]
        ] = {}  # as they were before the instruction that runs alone
        self._alone = False

    def admits(self, record: WalkRecord, result: npt.NDArray[np.uint64], hold: Callable[[str], None]) -> bool:
        """Take the right to write from `result` if need be; or call `hold` with what is to be done, and return False.

        That is `flush`, if a page that was given is a table now, or `step`.
        """
        frames = self._watched.frames
        new = {ref.hpa >> 12 for ref in record.references if ref.dimension is Dimension.GUEST} - frames
        frames |= new
        if new and self._take_back(new):
            hold("flush")
            return False
        frame = record.hpa >> 12
        if record.status is not Status.OK or not int(result[Result.RIGHTS]) & _WRITE:
            return True
        if frame in frames and not self._needed(frame):
            frames.discard(frame)
        if frame not in frames:
            self._given.add(frame)
            return True
        if record.access is not Access.WRITE:
            result[Result.RIGHTS] = int(result[Result.RIGHTS]) & ~_WRITE
            return True
        if frame not in self._open:
            self._open[frame] = self._words[frame << 9 : frame + 1 << 9].copy()
        if not self._alone:
            self._alone = True
            hold("step")
            return False
        return True

    def settle(self, actor: Actor) -> None:
        """The instruction has passed: note what it changed."""
        self._alone = False
        for frame, before in self._open.items():
            self.changed(frame, before, actor)
        self._open.clear()

    def snapshot(self, hpa: int) -> npt.NDArray[np.uint64] | None:
        """Return a copy of the frame at `hpa`, which is about to be written by somebody else; None if nobody cares."""
        frame = hpa >> 12
        return self._words[frame << 9 : frame + 1 << 9].copy() if frame in self._watched.frames else None

    def changed(self, frame: int, before: npt.NDArray[np.uint64], actor: Actor) -> None:
        """Note each entry of `frame` that is not as it was `before`."""
        now = self._words[frame << 9 : frame + 1 << 9]
        for n in np.flatnonzero(now != before).tolist():
            old, new = int(before[n]), int(now[n])
            if (old ^ new) & ~_FLAGS or old & ~new:
                self._log.wrote((frame << 12) + 8 * n, old, new, actor)

    def _take_back(self, frames: set[int]) -> bool:
        """Have every vCPU that may write one of `frames` ask again; return whether this one may."""
        mine = bool(frames & self._given)
        for one in self._watched.watches:
            if frames & one._given:
                one._given.clear()
                if one is not self:
                    one._flush()
        return mine

    def _needed(self, frame: int) -> bool:
        """Whether a mapping that any vCPU keeps was made from an entry in `frame`."""
        return any(
            entry.hpa >> 12 == frame
            for one in self._watched.watches
            for kept in one.retained
            for entry in kept.path
        )
