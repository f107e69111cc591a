"""One walk with kept mappings: what it may begin with, and what it leaves behind."""

from collections.abc import Iterator, Sequence

from quire.arch import CR3, EPTP
from quire.paging import Context, Dimension, Reference, WalkRecord
from quire.paging.context import Words
from quire.paging.walk_caches import GuestPage, GuestTable, HostPage, HostTable
from quire.paging.walk_record import WordMemory
from quire.tlb.retained.kept import Entry, KeptHostPage, KeptHostTable, KeptPage, KeptTable, Roots
from quire.tlb.retained.retained import Retained
from quire.tlb.spaces import AddressSpace

__all__ = ["RetainedWalk", "roots_of"]

_CR3, _EPTP = int(Context.CR3), int(Context.EPTP)
_ROOT, _EPT_ROOT = CR3.mask("addr"), EPTP.mask("addr")


def roots_of(context: Words) -> Roots:
    """Return where walks under `context` begin."""
    eptp = int(context[_EPTP])
    return Roots(int(context[_CR3]) & _ROOT, eptp & _EPT_ROOT if eptp else None)


class RetainedWalk:
    """The caches of one walk in `space` through `memory`: reads :class:`Retained` and puts into it what it may keep.

    By default the walk uses what is kept. `begin_with` makes it begin with that mapping, a page or a table, and no
    other of the guest's; with `fresh` it uses nothing. What the walk may leave is put into the store by :meth:`commit`.
    After the walk :attr:`page`, :attr:`table_used` and :attr:`host` are the mappings that it used.
    """

    def __init__(
        self,
        retained: Retained,
        space: AddressSpace,
        memory: WordMemory,
        context: Words,
        step: int,
        *,
        begin_with: KeptPage | KeptTable | None = None,
        fresh: bool = False,
    ) -> None:
        self.page: KeptPage | None = None
        self.table_used: KeptTable | None = None
        self.host: list[KeptHostPage | KeptHostTable] = []
        self._retained, self._space, self._memory = retained, space, memory
        self._begin_with, self._fresh = begin_with, fresh
        self._made: list[KeptPage | KeptTable | KeptHostPage | KeptHostTable] = []
        self._roots, self._step = roots_of(context), step
        self._references: Sequence[Reference] = ()
        self._path: list[Entry] = []
        self._host_start: tuple[Entry, ...] = ()
        self._collected = self._translated_from = 0
        self._host_page: KeptHostPage | None = None

    def begin(self, record: WalkRecord) -> None:
        """Take the record whose references will be the path."""
        self._references = record.references

    def pages(self, gva: int) -> Iterator[GuestPage]:
        """Yield the translations to be tried; the one at which the walk stops asking is the one that it uses."""
        if self._fresh or isinstance(self._begin_with, KeptTable):
            return
        only = self._begin_with
        for kept in self._retained.pages(self._space, gva) if only is None else [only]:
            assert isinstance(kept, KeptPage)
            self.page = kept
            yield kept.said
            self.page = None

    def table(self, gva: int) -> GuestTable | None:
        """Return the lowest table that is kept, or the one to begin with."""
        if self._fresh or isinstance(self._begin_with, KeptPage):
            return None
        kept = self._begin_with
        if kept is None:
            kept = next(iter(self._retained.tables(self._space, gva)), None)
        if kept is None:
            return None
        self.table_used = kept
        self._path = list(kept.path)
        return kept.said

    def host_page(self, gpa: int) -> HostPage | None:
        """Return the smallest guest-physical translation that is kept."""
        self._translated_from = len(self._references)
        self._host_start, self._host_page = (), None
        if self._fresh:
            return None
        for kept in self._retained.host_pages(self._space.guest_physical, gpa):
            self._host_page = kept
            return kept.said
        return None

    def host_table(self, gpa: int) -> HostTable | None:
        """Return the lowest table of EPT that is kept."""
        self._host_page = None  # it did not do
        if self._fresh:
            return None
        for kept in self._retained.host_tables(self._space.guest_physical, gpa):
            self.host.append(kept)
            self._host_start = kept.path
            return kept.said
        return None

    def keep_page(self, gva: int, page: GuestPage, *, is_global: bool) -> None:
        """Keep a translation: of any PCID if it is global."""
        self._collect()
        space = self._space.shared if is_global else self._space
        shift = page.size_shift
        kept = KeptPage(space, gva & -1 << shift, shift, page, tuple(self._path), self._roots, self._step)
        self._made.append(kept)

    def keep_table(self, gva: int, shift: int, table: GuestTable) -> None:
        """Keep a paging-structure entry."""
        self._collect()
        path = tuple(self._path)
        self._made.append(
            KeptTable(self._space, gva & -1 << shift, shift, table, path, self._roots, self._step)
        )

    def keep_host_page(self, gpa: int, page: HostPage) -> None:
        """Keep a guest-physical translation, unless it was kept already."""
        if self._host_page is not None:
            self.host.append(self._host_page)
            self._collect()
            self._path += self._host_page.path
            return
        path = self._host_path(0)
        self._collect()
        self._path += path
        self._collected = len(self._references)
        space = self._space.guest_physical
        assert space is not None
        base = gpa & -1 << page.shift
        self._made.append(KeptHostPage(space, base, page.shift, page, path, self._roots, self._step))

    def keep_host_table(self, gpa: int, shift: int, table: HostTable) -> None:
        """Keep an entry of EPT's paging-structure caches."""
        space = self._space.guest_physical
        assert space is not None
        path = self._host_path(table.level + 1)
        self._made.append(
            KeptHostTable(space, gpa & -1 << shift, shift, table, path, self._roots, self._step)
        )

    def commit(self) -> None:
        """Keep what the walk made: flags that it set are in memory now."""
        for kept in self._made:
            self._retained.keep(kept)

    def _host_path(self, level: int) -> tuple[Entry, ...]:
        """Return EPT's entries of the translation in progress, down to those of `level`."""
        read = self._references[self._translated_from :]
        found = [self._entry(ref) for ref in read if ref.dimension is Dimension.HOST and ref.level >= level]
        return (*self._host_start, *found)

    def _collect(self) -> None:
        """Add the guest's entries that were read meanwhile to the path."""
        for ref in self._references[self._collected :]:
            if ref.dimension is Dimension.GUEST:
                self._path.append(self._entry(ref))
        self._collected = len(self._references)

    def _entry(self, ref: Reference) -> Entry:
        gpa = ref.gpa if ref.dimension is Dimension.GUEST else None
        return Entry(ref.dimension, ref.level, ref.hpa, gpa, int(self._memory[ref.hpa >> 3]))
