"""Shadow pages and where to find them: by what they stand for, by guest frame, by host frame, by age.

A shadow page is one host frame of 512 entries as hardware reads them, and beside it, in no guest's reach, the guest
entry that each was made from. There is a bound on their number; the least recently used goes first.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Protocol

import numpy as np

from quire.arch import LOW32, PAGE_SHIFT, PagingMode
from quire.errors import MisuseError
from quire.memory import HostMemory
from quire.paging.context import Words
from quire.paging.shadow.role import Role

__all__ = ["ENTRIES", "LEAST_PAGES", "FrameSource", "ShadowPage", "ShadowPages"]

#: Entries of a shadow page.
ENTRIES = 512
#: The fewest shadow pages that a guest can run with: every page of the deepest walks of one instruction.
LEAST_PAGES = 64


class FrameSource(Protocol):
    """Where shadow pages get their frames. Addresses are HPAs."""

    def allocate_table(self) -> int:
        """Return the address of a zeroed frame."""
        ...

    def free_table(self, address: int) -> None:
        """Take a frame back."""
        ...


class ShadowPage:
    """One shadow page. `frame` is the guest frame of the table, or the first frame that a direct page maps.

    `table` is its HPA, `guest` that of the guest table, None for a page that shadows none. `source` holds the guest
    entry of each present entry. `parents` are the entries that reference it, by HPA. `unsync`: the guest may write its
    table without an exit. `writes` counts exits for writes to it since it was last used.
    """

    __slots__ = (
        "frame",
        "guest",
        "key",
        "parents",
        "role",
        "row",
        "slot",
        "source",
        "table",
        "unsync",
        "writes",
    )

    def __init__(
        self,
        key: Hashable,
        frame: int,
        role: Role,
        table: int,
        row: Words,
        slot: int,
    ) -> None:
        self.key, self.frame, self.role, self.table = key, frame, role, table
        self.row, self.slot = row, slot
        self.guest: int | None = None
        self.source = memoryview(row)  # type: ignore[arg-type] # the same, without NumPy's scalars
        self.parents: dict[int, ShadowPage] = {}
        self.unsync = False
        self.writes = 0

    def __repr__(self) -> str:
        kind = "direct" if self.role.direct else "shadow"
        return f"<{kind} page of guest frame {self.frame:#x}, level {self.role.level}, at {self.table:#x}>"

    @property
    def leaves_only(self) -> bool:
        """Whether it shadows a page table: only then may it go out of sync."""
        return self.role.level == 1 and self.guest is not None


class ShadowPages:
    """All shadow pages of one guest, at most `limit`. Raises MisuseError for a limit that no guest could run with."""

    def __init__(self, memory: HostMemory, frames: FrameSource, limit: int) -> None:
        if limit < LEAST_PAGES:
            raise MisuseError(
                f"{limit} shadow pages are too few for one instruction's walks: allow at least {LEAST_PAGES}"
            )
        self.limit = limit
        self.by_frame: dict[int, list[ShadowPage]] = {}
        self.by_table: dict[int, ShadowPage] = {}
        self._by_key: OrderedDict[Hashable, ShadowPage] = OrderedDict()
        self._memory = memory
        self._frames = frames
        self._rows: Words = np.zeros((limit, ENTRIES), np.uint64)
        self._slots = list(range(limit - 1, -1, -1))
        self._tables_in: dict[tuple[int, int], int] = {}  # how many tables each large frame holds

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[ShadowPage]:
        """Yield all pages, the least recently used first."""
        return iter(self._by_key.values())

    def find(self, key: Hashable) -> ShadowPage | None:
        """Return the page with this key, or None."""
        return self._by_key.get(key)

    def touch(self, page: ShadowPage) -> None:
        """Note that `page` is in use."""
        self._by_key.move_to_end(page.key)
        page.writes = 0

    def add(self, key: Hashable, frame: int, role: Role, guest: int | None) -> ShadowPage:
        """Return a new, empty page. Raises OutOfFrames; the bound is the caller's to keep."""
        table = self._frames.allocate_table()
        slot = self._slots.pop()
        page = ShadowPage(key, frame, role, table, self._rows[slot], slot)
        self._by_key[key] = self.by_table[table] = page
        if guest is not None:
            self.attach(page, guest)
        return page

    def remove(self, page: ShadowPage) -> None:
        """Forget `page`, which no entry references any more, and give its frame back."""
        del self._by_key[page.key], self.by_table[page.table]
        page.row.fill(0)
        self._slots.append(page.slot)
        self._frames.free_table(page.table)
        self.detach(page)

    def attach(self, page: ShadowPage, guest: int) -> None:
        """Note that `page` shadows the guest table at HPA `guest`."""
        page.guest = guest
        pages = self.by_frame.setdefault(page.frame, [])
        pages.append(page)
        if len(pages) == 1:
            self._count(page.frame, 1)

    def detach(self, page: ShadowPage) -> None:
        """Note that `page` shadows no guest table, or none for now: it has left the memory map."""
        if page.guest is None:
            return
        page.guest = None
        pages = self.by_frame[page.frame]
        pages.remove(page)
        if not pages:
            del self.by_frame[page.frame]
            self._count(page.frame, -1)

    def protects(self, frame: int) -> bool:
        """Whether writes to guest `frame` must exit: it is a table whose shadow has to follow."""
        pages = self.by_frame.get(frame)
        return pages is not None and any(not page.unsync for page in pages)

    def tables_in(self, frame: int, level: int) -> bool:
        """Whether the large frame of `level` that begins at `frame` holds a shadowed table."""
        return (level, frame >> 9 * (level - 1)) in self._tables_in

    def entry(self, page: ShadowPage, index: int) -> int:
        """Return the guest entry behind entry `index` of `page`, as it is in the guest's table now."""
        assert page.guest is not None
        if page.role.mode != PagingMode.BITS_32:
            return self._memory.load(page.guest + 8 * index)
        n = page.role.quadrant * ENTRIES + index
        if page.role.level == 2:
            n >>= 1  # one entry of 4 MiB is two of 2 MiB
        return self._memory.load(page.guest + (4 * n & ~7)) >> 32 * (n & 1) & LOW32

    def entries(self, page: ShadowPage) -> Words:
        """Return all 512 guest entries behind `page`."""
        assert page.guest is not None
        words: Words = self._memory.frames[page.guest >> PAGE_SHIFT]
        if page.role.mode != PagingMode.BITS_32:
            return words
        halves: Words = words.view(np.uint32).astype(np.uint64)
        first = page.role.quadrant * ENTRIES
        if page.role.level == 2:
            halves = np.repeat(halves, 2)
        return halves[first : first + ENTRIES]

    def table(self, page: ShadowPage) -> Words:
        """Return the 512 entries of the shadow page itself."""
        words: Words = self._memory.frames[page.table >> PAGE_SHIFT]
        return words

    def _count(self, frame: int, change: int) -> None:
        for level in (2, 3):
            place = (level, frame >> 9 * (level - 1))
            left = self._tables_in.get(place, 0) + change
            if left:
                self._tables_in[place] = left
            else:
                del self._tables_in[place]
