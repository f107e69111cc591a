"""References of a page walk, counted by the compiled walk on tables that are built here, beside what was published.

Every depth and page size of the guest's tables, alone and with every depth and page size of EPT. A count that differs
from the published one is for the caller to report; a walk that faults here is InternalError.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from quire.arch import ARCHITECTURE, EPT_PTE, PDE, PTE, Access, MemoryType, PagingMode, gva_index
from quire.errors import InternalError
from quire.paging import RESULT_WORDS, Context, Result, Status, new_context
from quire.paging._kernels import walk

__all__ = ["FORMULA", "Dimension", "Published", "count_references", "dimensions", "references_record"]

_FRAMES, _WORDS = 32, 512
_MEMORY = 4 << 30  # what the walk may reach; only the frames of tables are read
_ROOT, _EPT_ROOT = 1, 16
_PAGE = 0x5123  # of the page: an offset that every size of page has
_GVA = 0x4080_8000_0000 | _PAGE  # another index at each upper level of four
_TABLE, _LEAF = PTE.encode(P=1, RW=1, US=1), PTE.encode(P=1, RW=1, US=1)
_EPT_TABLE = EPT_PTE.mask("R", "W", "X")
_EPT_LEAF = _EPT_TABLE | EPT_PTE.encode(MT=MemoryType.WB)
_LARGE = PDE.mask("PS")
_MODES = {4: PagingMode.LEVEL_4, 5: PagingMode.LEVEL_5}
_PAGES = {1: "4K", 2: "2M", 3: "1G"}

#: How the references of a nested walk follow from the entries read in each dimension.
FORMULA = "(g + 1) x (h + 1) - 1"
_BHARGAVA = "Bhargava et al., ASPLOS 2008"
_SDM = "Intel SDM 3A, 4-level and 5-level paging"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of tables: how many `levels`, and the `leaf` level that maps the page, 1 for 4 KiB."""

    levels: int
    leaf: int

    @property
    def entries(self) -> int:
        """Entries from the root to the leaf."""
        return self.levels - self.leaf + 1

    @property
    def name(self) -> str:
        """The page and the levels: ``4K, 4 levels``."""
        return f"{_PAGES[self.leaf]}, {self.levels} levels"


@dataclass(frozen=True, slots=True)
class Published:
    """A count from outside, and who says so."""

    references: int
    source: str


def dimensions() -> list[Dimension]:
    """Return every depth with every page size."""
    return [Dimension(levels, leaf) for levels in _MODES for leaf in _PAGES]


def count_references(guest: Dimension, host: Dimension | None) -> tuple[int, int]:
    """Build tables, walk once, and return the references to the guest's tables and to EPT."""
    memory = np.zeros(_FRAMES * _WORDS, np.uint64)
    context = new_context(ARCHITECTURE, _MEMORY)
    context[Context.CR3] = _ROOT << 12
    context[Context.MODE] = _MODES[guest.levels]
    _build(memory, _ROOT, guest, _GVA, _TABLE, _LEAF)
    if host is not None:
        context[Context.EPTP] = _EPT_ROOT << 12 | (host.levels - 1) << 3 | MemoryType.WB
        for frame in range(_FRAMES):
            _build(memory, _EPT_ROOT, host, frame << 12, _EPT_TABLE, _EPT_LEAF)
    result = np.zeros(RESULT_WORDS, np.uint64)
    walk(memory, context, np.uint64(_GVA), np.uint64(Access.READ), result)
    if result[Result.STATUS] != Status.OK or result[Result.HPA] != _PAGE:
        raise InternalError(
            f"A walk of {guest.name} under {host and host.name} ended with status {int(result[Result.STATUS])}."
        )
    return int(result[Result.GUEST_REFERENCES]), int(result[Result.HOST_REFERENCES])


def published(guest: Dimension, host: Dimension | None) -> Published:
    """Return what is published for a walk: by name where it is, else by the formula of the nested walk."""
    if host is None:
        return Published(guest.entries, _SDM)
    if guest == host == Dimension(4, 1):
        return Published(24, _BHARGAVA)
    count = (guest.entries + 1) * (host.entries + 1) - 1
    return Published(count, f"{FORMULA} with g and h entries, of which 24 is the case 4 x 4")


def references_record() -> dict[str, Any]:
    """Return every walk with what was counted, what was published, by whom, and whether they are equal."""
    rows = list(_rows())
    return {
        "formula": FORMULA,
        "rows": rows,
        "equal": sum(row["equal"] for row in rows),
        "total": len(rows),
    }


def _rows() -> Iterator[dict[str, Any]]:
    for host in (None, *dimensions()):
        for guest in dimensions():
            of_guest, of_host = count_references(guest, host)
            said = published(guest, host)
            yield {
                "guest": guest.name,
                "host": None if host is None else host.name,
                "guest_references": of_guest,
                "host_references": of_host,
                "references": of_guest + of_host,
                "published": said.references,
                "source": said.source,
                "equal": of_guest + of_host == said.references,
            }


def _build(memory: Any, root: int, tables: Dimension, address: int, table: int, leaf: int) -> None:
    """Map the page of `address` to itself, or to the first page of its size: its tables are the frames from `root`."""
    for level in range(tables.levels, tables.leaf - 1, -1):
        frame = root + tables.levels - level
        where = frame * _WORDS + gva_index(address, level, _MODES[tables.levels])
        if level > tables.leaf:
            memory[where] = np.uint64((frame + 1) << 12 | table)
            continue
        target = address & 0x1F000 if level == 1 else 0
        memory[where] = np.uint64(target | leaf | (_LARGE if level > 1 else 0))
