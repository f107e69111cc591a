"""What has a frame of each area, whose else it is, and whether it was written: what Linux counts by page (fs/proc)."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, fields

from quire.guest.mm.backing import FileBacking
from quire.guest.mm.linux import PAGE_2M, PAGE_4K
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.pages import COW, SHARED, frame_of
from quire.guest.mm.vma import Large, Vma

__all__ = ["Residence", "residences"]


@dataclass(slots=True)
class Residence:
    """Bytes of one area. Pages of files and of shared memory are clean until they are written, others never are.

    `pss` has of each page the part that falls to this process. Pages that only MAP_HUGETLB gives are in `huge` alone.
    """

    private_clean: int = 0
    private_dirty: int = 0
    shared_clean: int = 0
    shared_dirty: int = 0
    anonymous: int = 0
    files: int = 0
    memory: int = 0  #: shared memory without a file
    large: int = 0  #: of `anonymous`, pages of 2 MiB
    huge: int = 0
    pss: int = 0
    pss_dirty: int = 0

    @property
    def resident(self) -> int:
        """All of them but huge ones."""
        return self.anonymous + self.files + self.memory

    def include(self, other: "Residence") -> None:
        """There are those of another area too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def add(self, size: int, users: int, *, dirty: bool) -> None:
        """There is a page more, which so many processes map."""
        if users > 1:
            self.shared_dirty += size * dirty
            self.shared_clean += size * (not dirty)
        else:
            self.private_dirty += size * dirty
            self.private_clean += size * (not dirty)
        self.pss += size // users
        self.pss_dirty += size // users * dirty


def residences(space: MemoryMap) -> Iterator[tuple[Vma, Residence]]:
    """Yield each area, in order, with what it has."""
    pages = space.pages
    if pages.shared.has_written:
        pages.note_dirty()
    small, large = pages.residents()
    for vma in space.areas:
        found = Residence()
        for page in small[bisect_left(small, vma.start) : bisect_left(small, vma.end)]:
            _add_small(found, space, vma, pages.small[page])
        for region in large[bisect_left(large, vma.start) : bisect_left(large, vma.end)]:
            if vma.large is Large.ONLY:
                found.huge += PAGE_2M
                continue
            found.add(PAGE_2M, pages.counts.mappers(frame_of(pages.large[region])), dirty=True)
            found.anonymous += PAGE_2M
            found.large += PAGE_2M
        yield vma, found


def _add_small(found: Residence, space: MemoryMap, vma: Vma, entry: int) -> None:
    pages = space.pages
    if not entry & SHARED:
        found.add(PAGE_4K, pages.counts.mappers(frame_of(entry)), dirty=True)
        found.anonymous += PAGE_4K
        return
    shared = pages.shared.at(frame_of(entry))
    found.add(PAGE_4K, len(shared.users), dirty=shared.dirty and not entry & COW)
    if isinstance(vma.backing, FileBacking):
        found.files += PAGE_4K
    else:
        found.memory += PAGE_4K
