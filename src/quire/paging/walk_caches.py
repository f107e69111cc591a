"""What a processor may keep of walks, as the walk asks for it and offers it: the seam between walker and caches.

A consumer of kept mappings implements :class:`WalkCaches`; the walk of ``reference.py`` begins where that says and
tells it what it used. The records hold what the manual lets a processor cache (SDM 3A §4.10.2.2, §4.10.3.1 and
SDM 3C §28.4.2): combined flags of the entries used, never a decision: that is made anew for each access.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from quire.paging.context import Rights
from quire.paging.walk_record import WalkRecord

__all__ = ["NO_CACHES", "GuestFlags", "GuestPage", "GuestTable", "HostPage", "HostTable", "WalkCaches"]


@dataclass(frozen=True, slots=True)
class GuestFlags:
    """R/W, U/S and XD of all guest entries used so far, combined."""

    writable: bool = True
    user: bool = True
    no_execute: bool = False


@dataclass(frozen=True, slots=True)
class HostPage:
    """A guest-physical translation: `rights` of all EPT entries, `above` of all but the leaf, and the leaf itself."""

    level: int
    shift: int
    rights: Rights
    above: Rights
    leaf: int


@dataclass(frozen=True, slots=True)
class HostTable:
    """An entry of EPT's paging-structure caches: where the table of `level` lies, and what the entries above allow."""

    level: int
    table: int
    rights: Rights


@dataclass(frozen=True, slots=True)
class GuestTable:
    """An entry of the paging-structure caches: the table of `level` at GPA `table`, HPA `hpa`.

    `marked`: all guest tables so far lie in pages that EPT marks paging-write. `host` is how EPT maps the table, None
    in one dimension.
    """

    level: int
    table: int
    hpa: int
    flags: GuestFlags
    marked: bool
    host: HostPage | None


@dataclass(frozen=True, slots=True)
class GuestPage:
    """A translation of a linear page: its guest leaf at `level`, the combined flags, and how EPT maps the page."""

    level: int
    shift: int
    leaf: int
    flags: GuestFlags
    host: HostPage | None
    gpa: int
    hpa: int
    dirty: bool

    @property
    def size_shift(self) -> int:
        """log2 of the page that both dimensions share: what one entry of a TLB covers."""
        return self.shift if self.host is None else min(self.shift, self.host.shift)


class WalkCaches(Protocol):
    """Where a walk may begin, and who hears of what it used. Addresses are linear, or guest-physical for `host_`."""

    def begin(self, record: WalkRecord) -> None:
        """A walk begins, whose references will be in `record`."""
        ...

    def pages(self, gva: int) -> Iterable[GuestPage]:
        """Return the kept translations of `gva`, in the order in which they are to be tried."""
        ...

    def table(self, gva: int) -> GuestTable | None:
        """Return the paging-structure entry for `gva` from which the walk is to begin."""
        ...

    def host_page(self, gpa: int) -> HostPage | None:
        """Return the kept guest-physical translation of `gpa`."""
        ...

    def host_table(self, gpa: int) -> HostTable | None:
        """Return the entry of EPT's paging-structure caches from which the walk of `gpa` is to begin."""
        ...

    def keep_page(self, gva: int, page: GuestPage, *, is_global: bool) -> None:
        """A walk has translated `gva`."""
        ...

    def keep_table(self, gva: int, shift: int, table: GuestTable) -> None:
        """A walk has reached `table` through an entry that maps 2**shift bytes."""
        ...

    def keep_host_page(self, gpa: int, page: HostPage) -> None:
        """EPT has translated `gpa`, by `page` that was kept or by a walk."""
        ...

    def keep_host_table(self, gpa: int, shift: int, table: HostTable) -> None:
        """EPT's walk of `gpa` has reached `table` through an entry that maps 2**shift bytes."""
        ...


class _NoCaches:
    def begin(self, record: WalkRecord) -> None:
        pass

    def pages(self, gva: int) -> Iterable[GuestPage]:
        return ()

    def table(self, gva: int) -> GuestTable | None:
        return None

    def host_page(self, gpa: int) -> HostPage | None:
        return None

    def host_table(self, gpa: int) -> HostTable | None:
        return None

    def keep_page(self, gva: int, page: GuestPage, *, is_global: bool) -> None:
        pass

    def keep_table(self, gva: int, shift: int, table: GuestTable) -> None:
        pass

    def keep_host_page(self, gpa: int, page: HostPage) -> None:
        pass

    def keep_host_table(self, gpa: int, shift: int, table: HostTable) -> None:
        pass


#: A processor that keeps nothing: each walk reads every entry.
NO_CACHES: WalkCaches = _NoCaches()
