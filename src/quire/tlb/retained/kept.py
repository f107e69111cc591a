"""What is kept: four kinds of mappings, each with its tags, what it says, and the entries that it was made from."""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from quire.paging import Dimension
from quire.paging.walk_caches import GuestPage, GuestTable, HostPage, HostTable
from quire.tlb.spaces import AddressSpace

__all__ = ["Entry", "Kept", "KeptHostPage", "KeptHostTable", "KeptPage", "KeptTable", "Roots"]

Said = TypeVar("Said", GuestPage, GuestTable, HostPage, HostTable, covariant=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A paging-structure entry as a walk left it: flags that the walk set are in `value`."""

    dimension: Dimension
    level: int
    hpa: int
    gpa: int | None
    value: int


class Roots(NamedTuple):
    """Where the walk began: frame of the guest's root, and of EPT's, None in one dimension."""

    guest: int
    host: int | None


@dataclass(eq=False, slots=True)
class Kept(Generic[Said]):
    """One kept mapping of 2**shift bytes at `start`, in `space`; `said` is what it says.

    `path` are the entries that it was made from, in both dimensions. `step` is when it was made. `verified` is the
    mark of the last comparison with the tables that found all as it was: whoever compares sets it.
    """

    space: AddressSpace
    start: int
    shift: int
    said: Said
    path: tuple[Entry, ...]
    roots: Roots
    step: int
    verified: object = field(default=None)

    def covers(self, address: int) -> bool:
        """Whether `address` is one of those that the mapping is for."""
        return address >> self.shift == self.start >> self.shift


class KeptPage(Kept[GuestPage]):
    """A translation: linear, or combined under EPT. Global ones are in a space without PCID."""

    @property
    def fractured(self) -> bool:
        """Whether it is a part of the guest's page, which EPT maps in smaller pages (SDM 3C §28.4.3.1)."""
        return self.said.shift != self.shift

    def translates(self, gva: int) -> bool:
        """Whether the guest's page that it is of holds `gva`: invalidation takes all parts of one."""
        return gva >> self.said.shift == self.start >> self.said.shift


class KeptTable(Kept[GuestTable]):
    """An entry of the paging-structure caches: a PDE, PDPTE, PML4E or PML5E."""


class KeptHostPage(Kept[HostPage]):
    """A guest-physical translation."""


class KeptHostTable(Kept[HostTable]):
    """An entry of EPT's paging-structure caches."""
