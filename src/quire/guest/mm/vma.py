"""Virtual memory areas: the guest kernel's list of what may be mapped where.

Models what the kernel calls a VMA: a page-aligned range with one protection and one backing. The list is
sorted, never overlaps, and neighbours that continue each other are one. Models no pages. Contract: callers
pass aligned, checked numbers; the areas that :meth:`VmaList.carve` returns still hold their reference to the
backing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from quire.guest.mm.backing import Backing
from quire.guest.mm.linux import PROT_EXEC, PROT_READ, PROT_WRITE, STACK_GUARD_GAP
from quire.paging import Rights

__all__ = ["RIGHTS", "Large", "OnFork", "Vma", "VmaList"]


def _rights(prot: int) -> Rights:
    """Return what the tables allow for `prot`: on x86 writing or executing implies reading."""
    rights = Rights(0)
    if prot & (PROT_READ | PROT_WRITE | PROT_EXEC):
        rights |= Rights.READ
    if prot & PROT_WRITE:
        rights |= Rights.WRITE
    if prot & PROT_EXEC:
        rights |= Rights.EXECUTE
    return rights


#: Rights in the tables by PROT_READ | PROT_WRITE | PROT_EXEC.
RIGHTS = tuple(_rights(prot) for prot in range(8))


class OnFork(Enum):
    """What a child gets of an area."""

    COPIED = "its pages, to be copied by whoever writes"
    WIPED = "the area with zeros (MADV_WIPEONFORK)"
    LEFT_OUT = "nothing (MADV_DONTFORK)"


class Large(Enum):
    """What a program has said of pages of 2 MiB in an area."""

    UNSAID = "nothing"
    WANTED = "that it wants them (MADV_HUGEPAGE)"
    UNWANTED = "that it does not (MADV_NOHUGEPAGE)"
    ONLY = "that it takes no other (MAP_HUGETLB)"


@dataclass(slots=True, eq=False)
class Vma:
    """Addresses `start` to `end`. `backing` None is private anonymous memory; `offset` is that of `start` in
    it.

    `prot` has the bits of PROT_READ, PROT_WRITE and PROT_EXEC only.
    """

    start: int
    end: int
    prot: int
    shared: bool = False
    grows_down: bool = False
    backing: Backing | None = None
    offset: int = 0
    name: bytes = b""
    on_fork: OnFork = OnFork.COPIED
    large: Large = Large.UNSAID
    rights: Rights = field(init=False)

    def __post_init__(self) -> None:
        self.rights = RIGHTS[self.prot]

    @property
    def guarded_start(self) -> int:
        """The lowest address that a new mapping below must leave free."""
        return self.start - STACK_GUARD_GAP if self.grows_down else self.start

    def offset_at(self, address: int) -> int:
        """Return the offset in the backing of `address`."""
        return self.offset + (address - self.start) if self.backing is not None else 0

    def part(self, start: int, end: int) -> "Vma":
        """Return a new area like this one over `start` to `end`; it takes a reference to the backing."""
        if self.backing is not None:
            self.backing.references += 1
        return Vma(
            start,
            end,
            self.prot,
            self.shared,
            self.grows_down,
            self.backing,
            self.offset_at(start),
            self.name,
            self.on_fork,
            self.large,
        )

    def continues(self, other: "Vma") -> bool:
        """Whether this area begins where `other` ends and is like it in everything."""
        return (
            self.start == other.end
            and self.prot == other.prot
            and self.backing is other.backing
            and self.shared == other.shared
            and self.grows_down == other.grows_down
            and self.name == other.name
            and self.on_fork is other.on_fork
            and self.large is other.large
            and (self.backing is None or self.offset == other.offset_at(other.end))
        )


class VmaList:
    """The areas of one address space in ascending order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._areas: list[Vma] = []
        self.mapped_bytes = 0

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._areas)

    def __reversed__(self) -> Iterator[Vma]:
        return reversed(self._areas)

    def __len__(self) -> int:
        return len(self._areas)

    def find(self, address: int) -> Vma | None:
        """Return the area that contains `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._areas[index].end:
            return self._areas[index]
        return None

    def neighbours(self, address: int) -> tuple[Vma | None, Vma | None]:
        """Return the last area that starts at or below `address` and the first that starts above."""
        index = bisect_right(self._starts, address)
        below = self._areas[index - 1] if index else None
        return below, self._areas[index] if index < len(self._areas) else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Return the areas that share an address with `start` to `end`, in order."""
        first, last = self._span(start, end)
        return self._areas[first:last]

    def covered(self, start: int, end: int) -> bool:
        """Whether every address from `start` to `end` lies in some area."""
        for vma in self.overlapping(start, end):
            if vma.start > start:
                return False
            start = vma.end
        return start >= end

    def insert(self, vma: Vma) -> None:
        """Add `vma`, whose range must be free, and merge it with neighbours that it continues."""
        index = bisect_left(self._starts, vma.start)
        self._starts.insert(index, vma.start)
        self._areas.insert(index, vma)
        self.mapped_bytes += vma.end - vma.start
        self._merge(index + 1)
        self._merge(index)

    def carve(self, start: int, end: int) -> list[Vma]:
        """Take `start` to `end` out of the list; return the areas, cut to that range."""
        first, last = self._isolate(start, end)
        removed = self._areas[first:last]
        del self._areas[first:last], self._starts[first:last]
        self.mapped_bytes -= sum(vma.end - vma.start for vma in removed)
        return removed

    def change(self, start: int, end: int, how: Callable[[Vma], None]) -> None:
        """Change every area between `start` and `end`, which are cut off the others for it."""
        first, last = self._isolate(start, end)
        for vma in self._areas[first:last]:
            how(vma)
        for index in range(last, first - 1, -1):
            self._merge(index)

    def set_protection(self, start: int, end: int, prot: int) -> None:
        """Give every address of `start` to `end` that lies in an area the protection `prot`."""

        def protect(vma: Vma) -> None:
            vma.prot, vma.rights = prot, RIGHTS[prot]

        self.change(start, end, protect)

    def extend(self, vma: Vma, end: int) -> None:
        """Move the end of `vma` up to `end`; the addresses must be free."""
        self.mapped_bytes += end - vma.end
        vma.end = end
        self._merge(bisect_right(self._starts, vma.start))

    def grow_down(self, vma: Vma, start: int) -> None:
        """Move the start of `vma` down to `start`; the addresses must be free."""
        index = bisect_left(self._starts, vma.start)
        self.mapped_bytes += vma.start - start
        vma.offset = max(0, vma.offset - (vma.start - start)) if vma.backing is not None else 0
        vma.start = self._starts[index] = start

    def _span(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._areas[first].end <= start:
            first += 1
        return first, max(first, bisect_left(self._starts, end))

    def _isolate(self, start: int, end: int) -> tuple[int, int]:
        """Cut the areas at `start` and `end`; return the indices of those in between."""
        for address in (start, end):
            index = bisect_right(self._starts, address) - 1
            if index >= 0 and self._areas[index].start < address < self._areas[index].end:
                vma = self._areas[index]
                upper = vma.part(address, vma.end)
                vma.end = address
                self._areas.insert(index + 1, upper)
                self._starts.insert(index + 1, address)
        return self._span(start, end)

    def _merge(self, index: int) -> None:
        """Join area `index` to the one before it, if it continues that."""
        if not 0 < index < len(self._areas):
            return
        lower, upper = self._areas[index - 1], self._areas[index]
        if upper.continues(lower):
            lower.end = upper.end
            if upper.backing is not None:
                upper.backing.references -= 1  # never the last: `lower` holds one
            del self._areas[index], self._starts[index]
