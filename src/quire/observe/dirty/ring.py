"""A ring of dirty frames in the order of their first writes, with the protocol of KVM's dirty ring.

An entry is taken, then its page is copied, then :meth:`DirtyRing.reset` lets the next write to it be noticed. A ring
that is full stops the guest at the exit that finds it full; what Quire itself writes meanwhile is kept, never lost.
"""

from collections.abc import Callable

from quire.errors import MisuseError
from quire.exits.stopped import GuestStopped
from quire.vcpu import Exit

__all__ = ["DirtyRing", "DirtyRingFull"]


_LEAST = 64  # one instruction may write several pages, and their tables; KVM keeps as many in reserve


class DirtyRingFull(GuestStopped):
    """The guest stands where the exit left it; take and reset the ring, then run it again."""

    def __init__(self, stop: Exit, capacity: int) -> None:
        super().__init__(stop)
        self.args = (f"The dirty ring holds {capacity} frames and is full: take and reset them, then go on",)


class DirtyRing:
    """At most `capacity` frames before the guest stops. `gather` and `rearm` are the log's; `drain` empties it in time.

    `drain` gets the ring when it is full, and is to take and reset; without one :class:`DirtyRingFull` is raised.
    """

    def __init__(
        self,
        capacity: int,
        drain: "Callable[[DirtyRing], None] | None",
        gather: Callable[[], None],
        rearm: Callable[[list[int]], None],
    ) -> None:
        if capacity < _LEAST:
            raise MisuseError(
                f"A ring of {capacity} frames may not hold what one instruction writes: give at least {_LEAST}"
            )
        self.capacity = capacity
        self._drain, self._gather, self._rearm = drain, gather, rearm
        self._entries: list[int] = []
        self._taken: list[int] = []

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, frame: int) -> None:
        """Put in a frame whose first write was noticed."""
        self._entries.append(frame)

    def take(self) -> list[int]:
        """Return the frames written since the last call, in order, as far as the processors tell their logs."""
        self._gather()
        found, self._entries = self._entries, []
        self._taken += found
        return found

    def reset(self) -> int:
        """Let the next write to each frame taken be noticed again; return how many there were."""
        self._rearm(self._taken)
        count, self._taken = len(self._taken), []
        return count

    def check(self, stop: Exit) -> None:
        """Deal with a ring that is full at exit `stop`."""
        if len(self._entries) < self.capacity:
            return
        if self._drain is not None:
            self._drain(self)
        if len(self._entries) >= self.capacity:
            raise DirtyRingFull(stop, self.capacity)
