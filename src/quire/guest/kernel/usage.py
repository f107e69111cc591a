"""What a process used: processor time, page faults, memory. Quire's own process uses more; that is not the guest's."""

from collections.abc import Callable
from dataclasses import dataclass

from quire.guest.mm.address_space import AddressSpace

__all__ = ["Usage"]


@dataclass(slots=True)
class Usage:
    """Counts from the moment it is made. `busy` returns the processor time that all tasks used so far, in ns."""

    space: AddressSpace
    busy: Callable[[], int]
    ran: int = 0  #: ns that its threads ran, but for the turn at hand
    since: int | None = None  #: what `busy` was when the turn at hand began
    _faults: int = 0  # in address spaces that it had before
    _peak: int = 0

    def begin_turn(self) -> None:
        """A thread of the process runs from now on."""
        if self.since is None:
            self.since = self.busy()

    def end_turn(self) -> None:
        """Another process runs from now on."""
        if self.since is not None:
            self.ran += self.busy() - self.since
            self.since = None

    def time(self) -> int:
        """Return the processor time that it took, in ns."""
        return self.ran + (0 if self.since is None else self.busy() - self.since)

    def replace(self, space: AddressSpace) -> None:
        """It has another address space from now on."""
        self._faults, self._peak = self.faults, self.peak
        self.space = space

    @property
    def faults(self) -> int:
        """Page faults that the kernel resolved; none of them waited for a disk."""
        return self._faults + self.space.faults

    @property
    def peak(self) -> int:
        """The most bytes that had a frame at a time."""
        return max(self._peak, self.space.pages.peak_bytes)
