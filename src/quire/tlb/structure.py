"""One TLB or walk cache of a vCPU: where its entries lie, and which kinds of entries it holds."""

from dataclasses import dataclass

from quire.arch import Replacement, TlbGeometry, WalkCacheGeometry
from quire.tlb.layout import KIND_OF_HELD, SIZE_OF_SHIFT, Kind

__all__ = ["Structure", "held_kinds", "is_unbounded"]


@dataclass(frozen=True, slots=True)
class Structure:
    """One TLB or walk cache: where its entries lie, and how they are chosen."""

    name: str
    start: int
    sets: int
    ways: int
    replacement: Replacement
    bounded: bool
    geometry: TlbGeometry | WalkCacheGeometry

    @property
    def end(self) -> int:
        """The index behind its last entry."""
        return self.start + self.sets * self.ways


def held_kinds(one: TlbGeometry | WalkCacheGeometry) -> list[Kind]:
    """Return the kinds of entries that a structure holds."""
    if isinstance(one, TlbGeometry):
        return [Kind(SIZE_OF_SHIFT[shift]) for shift in one.page_shifts]
    pages = [kind for kind in Kind if kind.is_page]
    return [kind for held in one.holds for kind in ([KIND_OF_HELD[held]] if held in KIND_OF_HELD else pages)]


def is_unbounded(one: TlbGeometry | WalkCacheGeometry) -> bool:
    """Whether a structure is a table that forgets nothing."""
    return isinstance(one, TlbGeometry) and one.entries is None
