"""What a guest used: processor time, page faults, memory. Quire's own process uses more; that is not the guest's."""

import resource
from dataclasses import dataclass, field

from quire.guest.mm.address_space import AddressSpace

__all__ = ["Usage"]


def _seconds_now() -> tuple[float, float]:
    """Return the user and system time of this thread, which runs the guest."""
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime, used.ru_stime


@dataclass(slots=True)
class Usage:
    """Counts from the moment it is made."""

    space: AddressSpace
    _began: tuple[float, float] = field(default_factory=_seconds_now)

    def seconds(self) -> tuple[float, float]:
        """Return the user and system time that the guest took, what Quire needs to execute it included."""
        user, system = _seconds_now()
        return user - self._began[0], system - self._began[1]

    @property
    def faults(self) -> int:
        """Page faults that the kernel resolved; none of them waited for a disk."""
        return self.space.faults

    @property
    def peak(self) -> int:
        """The most bytes that had a frame at a time."""
        return self.space.pages.peak_bytes
