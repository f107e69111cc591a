"""Pages that several mappings share, of one process or of many: of a file, or of shared anonymous memory.

Models the page cache as far as processes can see it: one frame per page of a file that is mapped, so
that two mappings of it read what either wrote. A file page lives while something maps it and is written back
when the last mapping goes; an anonymous one lives as long as its backing. Knows no page tables: the page map
tells it which pages are dirty.
"""

from dataclasses import dataclass, field
from typing import Protocol

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.backing import FileBacking, Key
from quire.guest.mm.linux import PAGE_4K

__all__ = ["Mapper", "SharedPage", "SharedPages"]

#: Pages that one call of the host writes (UIO_MAXIOV).
_RUN = 1024


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

    def __len__(self) -> int:
        return len(self._by_gpa)

    def find(self, key: Key, index: int) -> SharedPage | None:
        """Return the page `index` of `key` if it has a frame."""
        pages = self._by_key.get(key)
        return pages.get(index) if pages else None

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

    def add(self, page: SharedPage) -> None:
        """Enter a new page; its frame becomes this object's."""
        self._by_key.setdefault(page.key, {})[page.index] = page
        self._by_gpa[page.gpa] = page

    def leave(self, gpa: int, user: User, dirty: bool) -> None:
        """`user` no longer maps the page in frame `gpa`, which it had written if `dirty`."""
        page = self._by_gpa[gpa]
        page.users.pop(user, None)
        page.dirty |= dirty
        if not page.is_file:
            return
        # At once and not later: the mapping that goes may hold the last descriptor that can write.
        self.write(page)
        if not page.users:
            self._free(page)

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
        for key in self._by_key:
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

    def _free(self, page: SharedPage) -> None:
        pages = self._by_key[page.key]
        del pages[page.index], self._by_gpa[page.gpa]
        if not pages:
            del self._by_key[page.key]
        self._machine.free(page.gpa, PAGE_4K)
