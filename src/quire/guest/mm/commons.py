"""What the address spaces of one machine have in common: frames that fork shared, pages of files and shared memory."""

from dataclasses import dataclass, field
from enum import Enum

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.linux import PAGE_2M, PAGE_4K
from quire.guest.mm.shared_pages import SharedPages

__all__ = ["Commons", "FrameCounts", "LargePages"]


class LargePages(Enum):
    """Where the kernel maps pages of 2 MiB (/sys/kernel/mm/transparent_hugepage/enabled)."""

    ALWAYS = "always"
    MADVISE = "madvise"
    NEVER = "never"


@dataclass(slots=True)
class FrameCounts:
    """How many address spaces map a private frame that fork shared; one that is mapped once is not noted.

    A frame of 2 MiB is counted as one, until one of those that share it maps it by small pages: then its small frames
    are counted, and how many still map it whole.
    """

    _counts: dict[int, int] = field(default_factory=dict)
    _whole: dict[int, int] = field(
        default_factory=dict
    )  # of frames of 2 MiB that somebody maps by small pages

    def share(self, gpa: int) -> None:
        """One address space more maps the frame at `gpa`."""
        self._counts[gpa] = self._counts.get(gpa, 1) + 1

    def share_large(self, gpa: int) -> None:
        """One address space more maps the frame of 2 MiB at `gpa` whole."""
        if gpa not in self._whole:
            self.share(gpa)
            return
        self._whole[gpa] += 1
        for small in _small(gpa):
            self.share(small)

    def is_shared(self, gpa: int) -> bool:
        """Whether several address spaces map the frame at `gpa`."""
        return gpa in self._counts

    def mappers(self, gpa: int) -> int:
        """Return how many address spaces map the frame at `gpa`, of 2 MiB or of 4 KiB."""
        return self._counts.get(gpa, 1)

    def is_divided(self, gpa: int) -> bool:
        """Whether the frame of 2 MiB at `gpa` is small ones for somebody else."""
        return gpa in self._whole

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

    def divide(self, gpa: int) -> None:
        """One of those that map the frame of 2 MiB at `gpa` whole maps it by small pages from now on."""
        if gpa in self._whole:
            self._whole_less(gpa)
            return
        count = self._counts.pop(gpa, 1)
        if count > 1:
            self._whole[gpa] = count - 1
            self._counts.update(dict.fromkeys(_small(gpa), count))

    def leave_large(self, gpa: int) -> list[tuple[int, int]]:
        """One address space less maps the 2 MiB at `gpa` whole; return the GPA and size of what is nobody's now."""
        if gpa not in self._whole:
            return [(gpa, PAGE_2M)] if self.leave(gpa) else []
        self._whole_less(gpa)
        return [(small, PAGE_4K) for small in _small(gpa) if self.leave(small)]

    def _whole_less(self, gpa: int) -> None:
        self._whole[gpa] -= 1
        if not self._whole[gpa]:
            del self._whole[gpa]


def _small(gpa: int) -> range:
    return range(gpa, gpa + PAGE_2M, PAGE_4K)


class Commons:
    """Of the address spaces on one machine, whose frames `machine` hands out.

    `large` says where it maps large pages, by default wherever its own largest page allows it.
    """

    def __init__(self, machine: ProcessMachine, large: LargePages | None = None) -> None:
        default = LargePages.ALWAYS if machine.page_size >= PAGE_2M else LargePages.NEVER
        self.large = default if large is None else large
        self.counts = FrameCounts()
        self.pages = SharedPages(machine)
        self._shared = 0

    def new_memory(self) -> int:
        """Return a number that no shared memory without a file has so far."""
        self._shared += 1
        return self._shared
