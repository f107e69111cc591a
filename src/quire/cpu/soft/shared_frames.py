"""What the engines of one machine tell each other about frames: who may have code of one, who may store to it.

One engine runs at a time. What another must drop it finds in its inbox before it runs.
"""

from typing import Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from quire.cpu.soft.frame_cells import INBOX_FRAMES
from quire.machine import MOST_VCPUS

__all__ = ["SharedFrames", "Sharer", "frames_of"]


class Sharer(Protocol):
    """What one engine keeps of the machine's memory."""

    def share(self, number: int, frames: "SharedFrames") -> None:
        """Have the same memory as others, of which this is the engine `number`; drop all that was kept."""
        ...


class SharedFrames:
    """Of a machine whose memory has `frames` frames. An engine that is alone has nobody to tell anything.

    :attr:`runners` and :attr:`writers` have a bit for each engine, by frame: whether it may have code of it, whether it
    may store to it. :attr:`inboxes` have a row for each, as FrameCell.INBOXES says.
    """

    def __init__(self, frames: int) -> None:
        self.runners: npt.NDArray[np.uint64] = np.zeros(frames, np.uint64)
        self.writers: npt.NDArray[np.uint64] = np.zeros(frames, np.uint64)
        self.inboxes: npt.NDArray[np.uint64] = np.zeros((MOST_VCPUS, 1 + INBOX_FRAMES), np.uint64)
        self._first: ReferenceType[Sharer] | None = (
            None  # weak: it leads to the machine, which would never go
        )
        self._count = 0

    def join(self, one: Sharer) -> None:
        """Let `one` have the same memory as those that joined before."""
        number, self._count = self._count, self._count + 1
        if not number:
            self._first = ref(one)
            return
        first = self._first() if self._first is not None and number == 1 else None
        if first is not None:
            first.share(0, self)
        one.share(number, self)


_OF_MACHINES: WeakKeyDictionary[object, SharedFrames] = WeakKeyDictionary()


def frames_of(machine: object, frames: int) -> SharedFrames:
    """Return what the engines of `machine` share, whose memory has `frames` frames."""
    if machine not in _OF_MACHINES:
        _OF_MACHINES[machine] = SharedFrames(frames)
    return _OF_MACHINES[machine]
