"""Pages that several mappings share, of one process or of many: of a file, or of shared anonymous memory.

Models the page cache as far as processes can see it: one frame per page of a file that is mapped, so
that two mappings of it read what either wrote, and private ones too, until they write. A file page that could be
written is written back and goes with the last mapping; any other stays, for the next program that maps it, until the
file has changed or memory is short. An anonymous one lives as long as its backing. Knows no page tables: the page map
tells it which pages are dirty.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, TypeVar

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.backing import FileBacking, Key, Version
from quire.guest.mm.linux import PAGE_4K
from quire.memory import OutOfFrames

__all__ = ["Mapper", "SharedPage", "SharedPages"]

Made = TypeVar("Made")

#: Pages that one call of the host writes (UIO_MAXIOV).
_RUN = 1024
#: Pages that are given back at a time when memory is short.
_RECLAIMED = 1024


class Mapper(Protocol):
    """The frames of one address space, as far as a shared page knows them."""

    def clean(self, page: int) -> bool:
        """Clear the dirty flag of the small page at `page`; return what it was."""
        ...

    def drop_page(self, page: int) -> None:
        """Take the frame of the small page at `page` away."""
        ...


#: A page that maps a shared one: whose it is, and its address.
User = tuple[Mapper, int]


@dataclass(slots=True, eq=False)
class SharedPage:
    """One frame at `gpa` that holds page `index` of `key`. `users` are the pages that map it.

    `writer` is the file through which it is written back, None while nobody could have written it.
    """

    key: Key
    index: int
    gpa: int
    users: dict[User, None] = field(default_factory=dict)
    writer: FileBacking | None = None
    is_file: bool = True
    dirty: bool = False


class SharedPages:
    """All shared pages of one machine."""

    def __init__(self, machine: ProcessMachine) -> None:
        self._machine = machine
        self._by_key: dict[Key, dict[int, SharedPage]] = {}
        self._by_gpa: dict[int, SharedPage] = {}
        self._versions: dict[Key, Version] = {}  # of files, as they were when their pages were read
        self._idle: dict[SharedPage, None] = {}  # nobody maps them, the longest so first
        self._written: dict[SharedPage, None] = {}  # of files, and a mapping may write them

    def __len__(self) -> int:
        return len(self._by_gpa)

    @property
    def bytes(self) -> int:
        """How much memory they take, whether anybody maps them or not."""
        return len(self._by_gpa) * PAGE_4K

    def find(self, key: Key, index: int) -> SharedPage | None:
        """Return the page `index` of `key` if it has a frame."""
        pages = self._by_key.get(key)
        return pages.get(index) if pages else None

    def holds(self, key: Key) -> bool:
        """Whether a page of `key` has a frame."""
        return key in self._by_key

    def at(self, gpa: int) -> SharedPage:
        """Return the page in frame `gpa`."""
        return self._by_gpa[gpa]

    def of(self, key: Key) -> list[SharedPage]:
        """Return the pages of `key` in ascending order."""
        pages = self._by_key.get(key, {})
        return [pages[index] for index in sorted(pages)]

    def between(self, key: Key, first: int, last: int) -> list[SharedPage]:
        """Return the pages of `key` with an index from `first` to `last`, in order, by whichever way is shorter."""
        pages = self._by_key.get(key)
        if not pages:
            return []
        if last - first < len(pages):
            return [pages[index] for index in range(first, last + 1) if index in pages]
        return [pages[index] for index in sorted(pages) if first <= index <= last]

    def keys(self) -> list[Key]:
        """Return the files and memories that have pages, oldest first."""
        return list(self._by_key)

    def add(self, page: SharedPage, version: Version | None = None) -> None:
        """Enter a new page; its frame becomes this object's. `version` is what its file was before it was read."""
        if version is not None:
            self._versions.setdefault(page.key, version)
        self._by_key.setdefault(page.key, {})[page.index] = page
        self._by_gpa[page.gpa] = page

    def use(self, page: SharedPage, user: User) -> None:
        """`user` maps `page` from now on."""
        page.users[user] = None
        self._idle.pop(page, None)

    @property
    def has_written(self) -> bool:
        """Whether there are pages of files that a mapping may have written, newer than the file perhaps."""
        return bool(self._written)

    def let_write(self, page: SharedPage, file: FileBacking) -> None:
        """A mapping may write `page`, which goes to its file through `file`."""
        page.writer = file
        self._written[page] = None

    def changed(self, file: FileBacking) -> list[SharedPage]:
        """See whether `file` is what it was when its pages were read; if not, those go that nobody maps.

        Return those that somebody maps and nobody could write: they have to be read again.
        """
        key = file.key
        if key not in self._versions:
            return []
        now = file.version()
        if self._versions[key] == now:
            return []
        self._versions[key] = now
        pages = self.of(key)
        for page in pages:
            if not page.users:
                self._free(page)
        return [page for page in pages if page.users and page.writer is None]

    def reclaim(self) -> bool:
        """Free the frames of pages that nobody maps, some of them; return whether there were any."""
        pages = list(islice(self._idle, _RECLAIMED))
        for page in pages:
            self._free(page)
        return bool(pages)

    def with_room(self, step: Callable[[], Made]) -> Made:
        """Return what `step` does, with the frames of pages that nobody maps if it needs them. Raises OutOfFrames."""
        left = len(self._idle)
        while True:
            try:
                return step()
            except OutOfFrames:
                if left <= 0:  # what `step` itself left there is no room
                    raise
                left -= _RECLAIMED
                self.reclaim()

    def leave(self, gpa: int, user: User, dirty: bool) -> None:
        """`user` no longer maps the page in frame `gpa`, which it had written if `dirty`."""
        page = self._by_gpa[gpa]
        page.users.pop(user, None)
        page.dirty |= dirty
        if not page.is_file:
            return
        # At once and not later: the mapping that goes may hold the last descriptor that can write.
        self.write(page)
        if page.users:
            return
        if page.writer is None:
            self._idle[page] = None
        else:
            self._free(page)

    def write_back(self, page: SharedPage) -> int:
        """Write a file page to its file if any that map it have written it; return 0 or a negative errno."""
        for mapper, user in list(page.users):
            page.dirty |= mapper.clean(user)
        return self.write(page)

    def drop(self, page: SharedPage) -> None:
        """Take `page` away from all that map it, unwritten: its file no longer reaches so far."""
        page.writer = None
        for mapper, user in list(page.users):
            mapper.drop_page(user)
        self.drop_idle([page])

    def write(self, page: SharedPage) -> int:
        """Write a dirty file page back; return 0 or a negative errno. The page is clean afterwards."""
        if not page.dirty:
            return 0
        page.dirty = False
        if page.writer is None:
            return 0
        return page.writer.write_pages(page.index * PAGE_4K, [self._machine.physical(page.gpa, PAGE_4K)])

    def write_all(self) -> int:
        """Write all dirty file pages back, neighbours at once; return 0 or the first negative errno."""
        result = 0
        for key in dict.fromkeys(page.key for page in self._written):
            run: list[SharedPage] = []
            for page in self.of(key):
                if run and (not page.dirty or page.index != run[-1].index + 1 or len(run) == _RUN):
                    result = self._write_run(run) or result
                    run = []
                if page.dirty and page.writer is not None:
                    run.append(page)
            if run:
                result = self._write_run(run) or result
        return result

    def _write_run(self, run: list[SharedPage]) -> int:
        for page in run:
            page.dirty = False
        first = run[0]
        if first.writer is None:
            return 0
        views = [self._machine.physical(page.gpa, PAGE_4K) for page in run]
        return first.writer.write_pages(first.index * PAGE_4K, views)

    def zero(self, key: Key, offset: int, length: int) -> None:
        """Zero a range of `key`, as far as it has frames: a hole was punched there."""
        for page in self.of(key):
            start = page.index * PAGE_4K
            low, high = max(start, offset), min(start + PAGE_4K, offset + length)
            if low < high:
                view = self._machine.physical(page.gpa, PAGE_4K, write=True)
                view[low - start : high - start] = bytes(high - low)

    def forget(self, key: Key) -> None:
        """Free every page of `key`, which nothing maps any more."""
        for page in self.of(key):
            self._free(page)

    def drop_idle(self, pages: Iterable[SharedPage]) -> None:
        """Free those of `pages` that nobody maps."""
        for page in pages:
            if page in self._idle:
                self._free(page)

    def _free(self, page: SharedPage) -> None:
        pages = self._by_key[page.key]
        self._idle.pop(page, None)
        self._written.pop(page, None)
        del pages[page.index], self._by_gpa[page.gpa]
        if not pages:
            del self._by_key[page.key]
            self._versions.pop(page.key, None)
        self._machine.free(page.gpa, PAGE_4K)
