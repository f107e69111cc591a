"""Which pages of a process have a frame: the guest kernel's own record of what it mapped.

Models one entry per page that has a frame, of 4 KiB or 2 MiB. A page without access (PROT_NONE) is *parked*:
it keeps its frame and contents but the tables do not map it. A page that is *copied on write* has a frame that
others map too: the tables do not let it be written. Contract: the record and the machine's tables
agree after every call; ranges are aligned to 4 KiB, and :meth:`PageMap.split_edges` comes before a change
that ends within a 2 MiB page. OutOfFrames (no frame for a table) is raised before anything has changed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from quire.errors import InternalError
from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.commons import Commons
from quire.guest.mm.linux import PAGE_2M, PAGE_4K
from quire.guest.mm.shared_pages import SharedPage
from quire.memory import OutOfFrames
from quire.paging import Rights

__all__ = ["COW", "PARKED", "SHARED", "PageMap", "allowed", "frame_of"]

#: Flags in the low bits of an entry, whose rest is the frame's GPA.
SHARED = 1
PARKED = 2
COW = 4
_FLAGS = PAGE_4K - 1
_LARGE_MASK = ~(PAGE_2M - 1)
#: Pages between two pauses: some milliseconds of work.
_PACE = 512


def _go_on() -> None:
    """Nobody wants to end the work."""


class PageMap:
    """The frames of one address space: `small` and `large` map a page's address to its GPA and flags."""

    def __init__(self, machine: ProcessMachine, commons: Commons) -> None:
        self.machine = machine
        self.shared = commons.pages
        self.counts = commons.counts
        self.small: dict[int, int] = {}
        self.large: dict[int, int] = {}
        #: Called during long work; raises when the process is to be killed, which ends the work.
        self.pause: Callable[[], None] = _go_on
        self._peak = 0  # of what is resident, as far as pages were taken away since

    @property
    def resident_bytes(self) -> int:
        """Bytes of the address space that have a frame."""
        return PAGE_4K * len(self.small) + PAGE_2M * len(self.large)

    @property
    def peak_bytes(self) -> int:
        """The most bytes that had a frame at a time."""
        self._peak = max(self._peak, self.resident_bytes)
        return self._peak

    def add(self, page: int, entry: int) -> None:
        """Record the small page that was just mapped."""
        self.small[page] = entry

    def is_empty(self, region: int) -> bool:
        """Whether no page of the 2 MiB at `region` has a frame."""
        return region not in self.large and not any(
            page in self.small for page in range(region, region + PAGE_2M, PAGE_4K)
        )

    def has(self, address: int) -> bool:
        """Whether the 4 KiB page at `address` has a frame."""
        return address in self.small or (address & _LARGE_MASK) in self.large

    def unpark(self, address: int, rights: Rights) -> None:
        """Map the parked page at `address` (a key of `small` or `large`). Raises OutOfFrames."""
        table, size = (self.small, PAGE_4K) if address in self.small else (self.large, PAGE_2M)
        entry = table[address]
        self.machine.map(address, entry & ~_FLAGS, size, allowed(entry, rights))
        table[address] = entry & ~PARKED

    def residents(self) -> tuple[list[int], list[int]]:
        """Return the addresses of the pages that have a frame, in order: small ones, large ones."""
        return sorted(self.small), sorted(self.large)

    def split_edges(self, start: int, end: int) -> None:
        """Split the large pages that reach across `start` or `end`. Raises OutOfFrames."""
        if self.large:
            for edge in (start, end):
                region = edge & _LARGE_MASK
                if edge != region and region in self.large:
                    self._split(region)

    def drop(self, start: int, end: int) -> None:
        """Take the frames of `start` to `end` away; what shared file pages hold is written back."""
        self._peak = self.peak_bytes
        for page in self._paced(self._within(self.small, start, end, PAGE_4K)):
            self.drop_page(page)
        for page in self._within(self.large, start, end, PAGE_2M):
            entry = self.large.pop(page)
            if not entry & PARKED:
                self.machine.unmap(page)
            self._leave_large(entry)

    def protect(self, start: int, end: int, rights: Rights) -> None:
        """Give the pages of `start` to `end` new `rights`; none at all parks them. Parked ones stay so."""
        for table, size in ((self.small, PAGE_4K), (self.large, PAGE_2M)):
            for page in self._paced(self._within(table, start, end, size)):
                entry = table[page]
                if entry & PARKED:
                    continue
                if rights:
                    self.machine.protect(page, allowed(entry, rights))
                else:
                    self._unmap_to_park(table, page, entry)

    def move(self, old: int, length: int, new: int, rights: Rights) -> None:
        """Move the pages of `length` bytes at `old` to `new`, where none is. Raises OutOfFrames."""
        for page in self._within(self.large, old, old + length, PAGE_2M):
            if (new ^ old) & (PAGE_2M - 1) or self.large[page] & PARKED:
                self._split(page)
        self._move_regions(old, length, new)
        for table, size in ((self.small, PAGE_4K), (self.large, PAGE_2M)):
            for page in self._paced(self._within(table, old, old + length, size)):
                self._move_page(table, page, page + (new - old), size, rights)

    def shared_in(self, start: int, end: int) -> list[SharedPage]:
        """Return the shared file pages that the range maps or has parked, in order."""
        entries = [self.small[page] for page in self._within(self.small, start, end, PAGE_4K)]
        pages = [self.shared.at(entry & ~_FLAGS) for entry in entries if entry & SHARED and not entry & COW]
        return [page for page in pages if page.is_file]

    def free_all(self) -> None:
        """Let go of every frame: the tables have gone already."""
        self._peak = self.peak_bytes
        for page, entry in self.small.items():
            self._leave(page, entry, False)
        for entry in self.large.values():
            self._leave_large(entry)
        self.small.clear()
        self.large.clear()

    def write_all_back(self) -> int:
        """Write every dirty shared file page to its file, for the last time: no flag is cleared. 0 or -errno."""
        self.note_dirty()
        return self.shared.write_all()

    def note_dirty(self) -> None:
        """Note which shared pages were written: no flag is cleared."""
        shared = (page for page, entry in self.small.items() if entry & SHARED and not entry & COW)
        for region in {page & _LARGE_MASK for page in shared}:
            for page in self.machine.dirty_pages(region):
                entry = self.small[page]
                if entry & SHARED and not entry & COW:
                    self.shared.at(entry & ~_FLAGS).dirty = True

    def _paced(self, pages: Iterable[int]) -> Iterator[int]:
        """Yield `pages`, with a pause after every so many."""
        for count, page in enumerate(pages, 1):
            yield page
            if count % _PACE == 0:
                self.pause()

    def drop_page(self, page: int) -> None:
        """Take the frame of the small page at `page` away; what a shared file page holds is written back."""
        entry = self.small.pop(page)
        dirty = False
        if not entry & PARKED:
            dirty = self.machine.unmap(page).dirty
        self._leave(page, entry, dirty)

    def _leave(self, page: int, entry: int, dirty: bool) -> None:
        """Let go of the frame that `page` had."""
        if entry & SHARED:
            self.shared.leave(entry & ~_FLAGS, (self, page), dirty and not entry & COW)
        elif self.counts.leave(entry & ~_FLAGS):
            self.machine.free(entry & ~_FLAGS, PAGE_4K)

    def _leave_large(self, entry: int) -> None:
        """Let go of a frame of 2 MiB."""
        for gpa, size in self.counts.leave_large(entry & ~_FLAGS):
            self.machine.free(gpa, size)

    def own(self, page: int, rights: Rights, frame: Callable[[], int | None]) -> bool:
        """Give `page`, which is copied on write, a frame of its own to write to; False when `frame` returns none.

        The last that maps a private frame takes it over. Of a large page that others map as well only the small page
        is copied. Raises OutOfFrames.
        """
        region = page & _LARGE_MASK
        if page not in self.small:
            gpa = self.large[region] & ~_FLAGS
            if not self.counts.is_shared(gpa) and not self.counts.is_divided(gpa):
                self.large[region] = gpa
                self.machine.protect(region, rights)
                return True
            self._split(region)
        entry = self.small[page]
        gpa = entry & ~_FLAGS
        if not entry & SHARED and not self.counts.is_shared(gpa):
            self.small[page] = gpa
            self.machine.protect(page, rights)
            return True
        made = frame()
        if made is None:
            return False
        if self.small.get(page) != entry:  # whoever made room for it took this one away
            self.machine.free(made, PAGE_4K)
            return True
        try:
            self.machine.physical(made, PAGE_4K, write=True)[:] = self.machine.physical(gpa, PAGE_4K)
        except OutOfFrames:
            self.machine.free(made, PAGE_4K)
            raise
        self.machine.unmap(page)
        self._leave(page, entry, False)
        self.small[page] = made | PARKED
        self.unpark(page, rights)
        return True

    def fork(self, child: "PageMap", left_out: Sequence[tuple[int, int]] = ()) -> None:
        """Have `child`, which is empty, map the same private frames, to be copied by whoever writes first.

        Pages that mappings share come back by faults. Raises OutOfFrames: then the tables of `child` are to be closed,
        and its frames let go.
        """
        for low, high in left_out:
            self.split_edges(low, high)
        self._fork_large(child, left_out)
        copied = sorted(
            page
            for page, entry in self.small.items()
            if (not entry & SHARED or entry & COW) and not _within_any(page, left_out)
        )
        mapped = [page for page in copied if not self.small[page] & PARKED]
        for page in copied:
            entry = self.small[page] | COW
            self.small[page] = entry
            child.add(page, entry)
            if entry & SHARED:
                self.shared.use(self.shared.at(entry & ~_FLAGS), (child, page))
            else:
                self.counts.share(entry & ~_FLAGS)
        self.machine.copy_pages(child.machine, mapped)

    def _fork_large(self, child: "PageMap", left_out: Sequence[tuple[int, int]]) -> None:
        with self.machine.together():
            for region, entry in self.large.items():
                if _within_any(region, left_out):
                    continue
                self.large[region] = child.large[region] = entry | COW
                self.counts.share_large(entry & ~_FLAGS)
                if entry & PARKED:
                    continue
                leaf = self.machine.lookup(region)
                assert leaf is not None, "what is not parked is mapped"
                rights = allowed(COW, leaf.rights)
                self.machine.protect(region, rights)
                child.machine.map(region, entry & ~_FLAGS, PAGE_2M, rights)

    def collapse(self, region: int, rights: Rights) -> bool:
        """Give the 2 MiB at `region`, of private anonymous memory, one page; False when there is no frame of that size.

        What had no frame reads as zero.
        """
        if region in self.large:
            return True
        gpa = self.machine.allocate(PAGE_2M)
        if gpa is None and self.shared.reclaim():
            gpa = self.machine.allocate(PAGE_2M)
        if gpa is None:
            return False
        pages = self._within(self.small, region, region + PAGE_2M, PAGE_4K)
        try:
            for page in pages:
                source = self.machine.physical(self.small[page] & ~_FLAGS, PAGE_4K)
                self.machine.physical(gpa + page - region, PAGE_4K, write=True)[:] = source
        except OutOfFrames:
            self.machine.free(gpa, PAGE_2M)
            return False
        with self.machine.together():
            for page in pages:
                self.drop_page(page)
        self.large[region] = gpa | PARKED
        if rights:
            with suppress(OutOfFrames):  # no frame for a table now: the next access tries again
                self.unpark(region, rights)
        return True

    def _unmap_to_park(self, table: dict[int, int], page: int, entry: int) -> None:
        leaf = self.machine.unmap(page)
        table[page] = entry | PARKED
        if entry & SHARED and not entry & COW:
            self.shared.at(entry & ~_FLAGS).dirty |= leaf.dirty

    def _move_regions(self, old: int, length: int, new: int) -> None:
        """Move the small pages of whole 2 MiB regions by their tables, if `new` lies as `old` does in its own."""
        first, end, shift = (old + PAGE_2M - 1) & _LARGE_MASK, (old + length) & _LARGE_MASK, new - old
        if shift % PAGE_2M or first >= end:
            return
        pages = self._within(self.small, first, end, PAGE_4K)
        if not pages:
            return
        self.machine.move_tables(first, end, first + shift)
        moved = {page + shift: self.small.pop(page) for page in pages}
        for page, entry in moved.items():
            self.add(page, entry)
            if entry & SHARED:
                users = self.shared.at(entry & ~_FLAGS).users
                users[self, page] = users.pop((self, page - shift), None)

    def _move_page(self, table: dict[int, int], page: int, to: int, size: int, rights: Rights) -> None:
        entry = table[page]
        dirty = False
        if not entry & PARKED:
            dirty = self.machine.unmap(page).dirty
        if size == PAGE_4K:
            self.small.pop(page)
        else:
            del table[page]
        gpa, entry = entry & ~_FLAGS, entry | PARKED
        if rights:
            with suppress(
                OutOfFrames
            ):  # no frame for a table now: it stays parked, and the next access tries again
                self.machine.map(to, gpa, size, allowed(entry, rights))
                entry &= ~PARKED
        if size == PAGE_4K:
            self.add(to, entry)
        else:
            table[to] = entry
        if entry & SHARED:
            shared = self.shared.at(gpa)
            shared.users[self, to] = None
            shared.users.pop((self, page), None)
            shared.dirty |= dirty and not entry & COW

    def clean(self, page: int) -> bool:
        """Clear the dirty flag of the small page at `page`; return what it was."""
        entry = self.small[page]
        if entry & (PARKED | COW):
            return False
        leaf = self.machine.lookup(page)
        if leaf is None:
            raise InternalError(f"page {page:#x} is recorded as mapped, but the tables do not map it.")
        if not leaf.dirty:
            return False
        self.machine.unmap(page)
        try:
            self.machine.map(page, entry & ~_FLAGS, PAGE_4K, leaf.rights)
        except OutOfFrames:
            self.small[page] = entry | PARKED
        return True

    def _split(self, region: int) -> None:
        entry = self.large[region]
        gpa, divided = entry & ~_FLAGS, self.counts.is_divided(entry & ~_FLAGS)
        if entry & PARKED:
            # The machine splits what is mapped, and its frames with it.
            self.machine.map(region, gpa, PAGE_2M, Rights.READ)
        try:
            self.shared.with_room(lambda: self.machine.split(region, divide=not divided))
        except OutOfFrames:
            if entry & PARKED:
                self.machine.unmap(region)
            raise
        if entry & PARKED:
            for offset in range(0, PAGE_2M, PAGE_4K):
                self.machine.unmap(region + offset)
        self.counts.divide(gpa)
        del self.large[region]
        for offset in range(0, PAGE_2M, PAGE_4K):
            self.add(region + offset, (gpa + offset) | (entry & _FLAGS))

    @staticmethod
    def _within(table: dict[int, int], start: int, end: int, size: int) -> list[int]:
        """Return the keys of `table` from `start` to `end` in order, by whichever way is shorter."""
        if not table:
            return []
        first = -(-start // size) * size
        if (end - first) // size <= len(table):
            return [page for page in range(first, end, size) if page in table]
        return sorted(page for page in table if first <= page < end)


def frame_of(entry: int) -> int:
    """Return the GPA of the frame that an entry has."""
    return entry & ~_FLAGS


def allowed(entry: int, rights: Rights) -> Rights:
    """Return the rights that the tables give a page with this entry, in an area with `rights`."""
    return rights & ~Rights.WRITE if entry & COW else rights


def _within_any(page: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(low <= page < high for low, high in ranges)
