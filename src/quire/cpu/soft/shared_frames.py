"""What the engines of one machine tell each other about frames: who may have code of one, who may store to it.

One engine runs at a time. What another must drop it finds in its inbox before it runs.
"""

from typing import Protocol
from weakref import WeakKeyDictionary

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
        self._members: list[Sharer] = []

    def join(self, one: Sharer) -> None:
        """Let `one` have the same memory as those that joined before."""
        self._members.append(one)
        number = len(self._members) - 1
        if number == 1:
            self._members[0].share(0, self)
        if number:
            one.share(number, self)


_OF_MACHINES: WeakKeyDictionary[object, SharedFrames] = WeakKeyDictionary()


def frames_of(machine: object, frames: int) -> SharedFrames:
    """Return what the engines of `machine` share, whose memory has `frames` frames."""
    if machine not in _OF_MACHINES:
        _OF_MACHINES[machine] = SharedFrames(frames)
    return _OF_MACHINES[machine]
