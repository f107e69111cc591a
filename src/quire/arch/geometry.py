"""The geometry of TLBs and walk caches: sizes, ways, what entries hold.

A geometry is data of a CPU profile. Fails with MisuseError for one that cannot exist.
"""

from dataclasses import dataclass
from enum import StrEnum

from quire.arch.replacement import Replacement
from quire.errors import MisuseError

__all__ = ["Held", "Side", "TlbGeometry", "WalkCacheGeometry"]


class Side(StrEnum):
    """Which accesses look a TLB up."""

    FETCH = "fetch"
    LOAD = "load"
    STORE = "store"


class Held(StrEnum):
    """What an entry of a walk cache holds: a paging-structure entry of that level, or a page's translation."""

    PDE = "PDE"
    PDPTE = "PDPTE"
    PML4E = "PML4E"
    PML5E = "PML5E"
    PAGE = "page"  #: of guest-physical mappings alone: what papers call a nested TLB


_PAGE_SHIFTS = (12, 21, 30)
_MOST_WAYS = 128  # of a set: what the kernels look for entries with


def _check_shape(what: str, entries: int, ways: int) -> None:
    if ways < 1 or entries < 1 or entries % ways:
        raise MisuseError(
            f"{what}: {entries} entries do not divide into {ways} ways: give entries as a multiple of ways"
        )
    if ways > _MOST_WAYS:
        raise MisuseError(f"{what}: {ways} ways are too many: give at most {_MOST_WAYS}")
    sets = entries // ways
    if sets & (sets - 1):
        raise MisuseError(f"{what}: {sets} sets are not a power of two: change entries or ways")


@dataclass(frozen=True, slots=True)
class TlbGeometry:
    """One TLB: `entries` in `ways`, at `level` (1 is looked up first), for the accesses of `sides`.

    Entries hold pages of ``1 << shift`` bytes for each of `page_shifts`; a larger page that no TLB of the level takes
    is held in pieces of the largest size that one does. Fully associative means ways equal to entries; `entries` of
    None is a TLB without bound. `source` says who published it, `assumed` which fields nobody did. Raises MisuseError
    unless the ways divide the entries, the number of sets is a power of two (an index is a bit range of the page
    number), and there is a side and a page size.
    """

    name: str
    level: int
    sides: tuple[Side, ...]
    page_shifts: tuple[int, ...]
    entries: int | None
    ways: int = 1
    replacement: Replacement = Replacement.LRU
    source: str = ""
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.entries is not None:
            _check_shape(f"TLB {self.name}", self.entries, self.ways)
        if not self.page_shifts:
            raise MisuseError(f"TLB {self.name} holds no page size: give page_shifts, (12,) for 4 KiB")
        for shift in self.page_shifts:
            if shift not in _PAGE_SHIFTS:
                raise MisuseError(f"TLB {self.name}: no page has 1 << {shift} bytes: give 12, 21 or 30")
        if not self.sides:
            raise MisuseError(f"TLB {self.name} serves no access: give sides, fetch, load or store")
        if not 1 <= self.level <= 4:
            raise MisuseError(f"TLB {self.name} is at level {self.level}: give 1 to 4")

    @property
    def sets(self) -> int:
        """The number of sets: 1 when fully associative or without bound."""
        return 1 if self.entries is None else self.entries // self.ways


@dataclass(frozen=True, slots=True)
class WalkCacheGeometry:
    """One cache of the page walker: `entries` in `ways`, each a paging-structure entry or a page as `holds` says.

    `guest_physical`: of EPT, tagged by EP4TA; else of linear addresses, tagged VPID and PCID, and EP4TA under EPT.
    Raises MisuseError as :class:`TlbGeometry` does, or when it holds nothing, or pages of linear addresses: a TLB.
    """

    name: str
    guest_physical: bool
    holds: tuple[Held, ...]
    entries: int
    ways: int
    replacement: Replacement = Replacement.LRU
    source: str = ""
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shape(f"Walk cache {self.name}", self.entries, self.ways)
        if not self.holds:
            raise MisuseError(f"Walk cache {self.name} holds nothing: give holds, PDE for instance")
        if Held.PAGE in self.holds and not self.guest_physical:
            raise MisuseError(
                f"Walk cache {self.name} holds pages of linear addresses: that is a TLB, list it there"
            )

    @property
    def sets(self) -> int:
        """The number of sets: 1 when fully associative."""
        return self.entries // self.ways
