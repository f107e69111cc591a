"""Devices in a shadow: leaves that are marked by where they point, beyond all memory, so that no access passes them."""

from dataclasses import dataclass

__all__ = ["DeviceRange"]


@dataclass(frozen=True, slots=True)
class DeviceRange:
    """Guest-physical addresses from `start` to `end`; hardware's entries for them point to `base` plus the address."""

    start: int
    end: int
    base: int

    def target(self, gpa: int) -> int | None:
        """Return where an entry for `gpa` points, None if no device can be there."""
        return self.base + gpa if self.start <= gpa < self.end else None
