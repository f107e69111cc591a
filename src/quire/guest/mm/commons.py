"""What the address spaces of one machine have in common: frames that fork shared, pages of files and shared memory."""

from dataclasses import dataclass, field

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.shared_pages import SharedPages

__all__ = ["Commons", "FrameCounts"]


@dataclass(slots=True)
class FrameCounts:
    """How many address spaces map a private frame that fork shared; one that is mapped once is not noted."""

    _counts: dict[int, int] = field(default_factory=dict)

    def share(self, gpa: int) -> None:
        """One address space more maps the frame at `gpa`."""
        self._counts[gpa] = self._counts.get(gpa, 1) + 1

    def is_shared(self, gpa: int) -> bool:
        """Whether several address spaces map the frame at `gpa`."""
        return gpa in self._counts

    def leave(self, gpa: int) -> bool:
        """One address space less maps it; return whether it was the last."""
        count = self._counts.get(gpa)
        if count is None:
            return True
        if count == 2:
            del self._counts[gpa]
        else:
            self._counts[gpa] = count - 1
        return False


class Commons:
    """Of the address spaces on one machine, whose frames `machine` hands out."""

    def __init__(self, machine: ProcessMachine) -> None:
        self.counts = FrameCounts()
        self.pages = SharedPages(machine)
        self._shared = 0

    def new_memory(self) -> int:
        """Return a number that no shared memory without a file has so far."""
        self._shared += 1
        return self._shared
