"""The store: every mapping that was kept and no operation has dropped, by address space, size and page number.

Models no capacity. A mapping is put in only after a walk that found every entry present, legal and accessed (SDM 3A
§4.10.2.3 and §4.10.3.1, SDM 3C §28.4.2); that is the walk's business, see :class:`quire.tlb.retained.RetainedWalk`.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from quire.tlb.invalidation import Operand, Operation, Structures
from quire.tlb.retained.kept import Kept, KeptHostPage, KeptHostTable, KeptPage, KeptTable
from quire.tlb.spaces import AddressSpace, Extent

__all__ = ["Retained"]

K = TypeVar("K", bound=Kept[Any])
AnyKept = KeptPage | KeptTable | KeptHostPage | KeptHostTable


class _Shelf(Generic[K]):
    """The mappings of one kind in one address space, found by size and page number."""

    def __init__(self) -> None:
        self._by_page: dict[tuple[int, int], K] = {}
        self._sizes: dict[int, int] = {}  # how many of each shift
        self._fractured = 0  # how many are parts of a guest's page

    def put(self, kept: K) -> None:
        old = self._by_page.get((kept.shift, kept.start >> kept.shift))
        if old is not None:
            self.take(old)
        self._by_page[kept.shift, kept.start >> kept.shift] = kept
        self._sizes[kept.shift] = self._sizes.get(kept.shift, 0) + 1
        self._fractured += isinstance(kept, KeptPage) and kept.fractured

    def take(self, kept: K) -> None:
        del self._by_page[kept.shift, kept.start >> kept.shift]
        self._fractured -= isinstance(kept, KeptPage) and kept.fractured
        self._sizes[kept.shift] -= 1
        if not self._sizes[kept.shift]:
            del self._sizes[kept.shift]

    def at(self, address: int) -> list[K]:
        """Return those that cover `address`, smallest first."""
        found = []
        for shift in sorted(self._sizes):
            kept = self._by_page.get((shift, address >> shift))
            if kept is not None:
                found.append(kept)
        return found

    def of_page(self, address: int) -> list[K]:
        """Return those that cover `address` and, of translations, all parts of its page."""
        if not self._fractured:
            return self.at(address)
        return [kept for kept in self if isinstance(kept, KeptPage) and kept.translates(address)]

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._by_page.values()))

    def __len__(self) -> int:
        return len(self._by_page)


class Retained:
    """What one processor may have kept. Iterating yields every mapping, in the order of kinds, spaces and creation."""

    def __init__(self) -> None:
        self._pages: dict[AddressSpace, _Shelf[KeptPage]] = {}
        self._tables: dict[AddressSpace, _Shelf[KeptTable]] = {}
        self._host_pages: dict[AddressSpace, _Shelf[KeptHostPage]] = {}
        self._host_tables: dict[AddressSpace, _Shelf[KeptHostTable]] = {}

    def __iter__(self) -> Iterator[AnyKept]:
        for kind in (self._pages, self._tables, self._host_pages, self._host_tables):
            for shelf in kind.values():
                yield from shelf

    def __len__(self) -> int:
        kinds = (self._pages, self._tables, self._host_pages, self._host_tables)
        return sum(len(shelf) for kind in kinds for shelf in kind.values())

    def keep(self, kept: AnyKept) -> None:
        """Put a mapping in, in place of one of the same tags, kind, page and size."""
        if isinstance(kept, KeptPage):
            self._pages.setdefault(kept.space, _Shelf()).put(kept)
        elif isinstance(kept, KeptTable):
            self._tables.setdefault(kept.space, _Shelf()).put(kept)
        elif isinstance(kept, KeptHostPage):
            self._host_pages.setdefault(kept.space, _Shelf()).put(kept)
        else:
            self._host_tables.setdefault(kept.space, _Shelf()).put(kept)

    def pages(self, space: AddressSpace, gva: int) -> list[KeptPage]:
        """Return the translations of `gva` that an access in `space` may use: its own, then global ones."""
        found: list[KeptPage] = []
        for tags in (space, space.shared):
            shelf = self._pages.get(tags)
            if shelf is not None:
                found += shelf.at(gva)
        return found

    def tables(self, space: AddressSpace, gva: int) -> list[KeptTable]:
        """Return the paging-structure entries for `gva`, the lowest level first."""
        shelf = self._tables.get(space)
        return [] if shelf is None else shelf.at(gva)

    def host_pages(self, space: AddressSpace | None, gpa: int) -> list[KeptHostPage]:
        """Return the guest-physical translations of `gpa` in `space`, small first."""
        shelf = None if space is None else self._host_pages.get(space)
        return [] if shelf is None else shelf.at(gpa)

    def host_tables(self, space: AddressSpace | None, gpa: int) -> list[KeptHostTable]:
        """Return EPT's paging-structure entries for `gpa`, the lowest level first."""
        shelf = None if space is None else self._host_tables.get(space)
        return [] if shelf is None else shelf.at(gpa)

    def invalidate(self, operation: Operation, operand: Operand) -> list[AnyKept]:
        """Drop what one row of the invalidation table names, and return it. What the row does not name stays."""
        rule = operation.value
        dropped: list[AnyKept] = []
        for kind in (self._pages, self._tables, self._host_pages, self._host_tables):
            tables = kind is self._tables or kind is self._host_tables
            every = tables and rule.structures is Structures.ALL
            for space, shelf in kind.items():
                extent = space.extent(rule, operand)
                if extent is not Extent.NOTHING:
                    dropped += _drop(shelf, Extent.ALL if every else extent, operand)
        return dropped


def _drop(shelf: _Shelf[Any], extent: Extent, operand: Operand) -> list[AnyKept]:
    """Drop from one shelf what `extent` says, and return it."""
    if extent is Extent.ALL:
        dropped = list(shelf)
    else:
        dropped = shelf.of_page(operand.gva if extent is Extent.GVA else operand.gpa)
    for kept in dropped:
        shelf.take(kept)
    return dropped
