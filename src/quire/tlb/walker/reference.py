"""The walk caches in plain Python: which references of a walk are made. The slow twin of the kernel.

Written from the manual's description (SDM 3A §4.10.3, SDM 3C §28.4.1) and Bhargava et al., ASPLOS 2008: the deepest
cached entry of the linear address is where the walk begins; the table that it names needs no translation, unless the
options say that entries hold guest-physical addresses. Every other
guest-physical address of the walk, that of a table or of the page, is looked up in the nested TLB, else it is
translated from the deepest cached entry of EPT.
"""

from dataclasses import dataclass

from quire.arch import CpuProfile
from quire.tlb.layout import KIND_SHIFTS, Kind
from quire.tlb.reference import ReferenceArray, ReferenceTlb
from quire.tlb.structure import held_kinds
from quire.tlb.tlb import TlbOptions

__all__ = ["GuestPhysical", "ReferenceWalker"]


@dataclass(frozen=True, slots=True)
class GuestPhysical:
    """A guest-physical address of a walk, and log2 of the EPT page behind it."""

    gpa: int
    shift: int


class ReferenceWalker(ReferenceTlb):
    """TLBs and walk caches. `ept_space` is the number of the guest-physical mappings, 0 without EPT."""

    def __init__(self, profile: CpuProfile, options: TlbOptions, random_state: int) -> None:
        super().__init__(profile, options, random_state)
        self.ept_space = 0
        #: Of the last walk: the guest levels that were read, and the references to EPT for the table of each level, at
        #: 0 for the page.
        self.read: list[int] = []
        self.made: dict[int, int] = {}
        self._by_gpa = options.tables_by_gpa
        self._linear: dict[int, ReferenceArray] = {}
        self._ept: dict[int, ReferenceArray] = {}
        for one in profile.walk_caches if options.walk_caches else ():
            array = ReferenceArray(self, one, options.replacement or one.replacement)
            for kind in held_kinds(one):
                (self._ept if one.guest_physical else self._linear)[kind] = array

    def account(
        self, gva: int, tables: dict[int, GuestPhysical], page: GuestPhysical | None, host_levels: int
    ) -> tuple[int, int]:
        """Return the references to guest tables and to EPT of a walk whose entries lie in `tables`, by level.

        `page` is None when the entry of the lowest level faulted.
        """
        levels = sorted(tables, reverse=True)
        reached = None
        for level in reversed(levels[:-1]):
            if self._cached(self._linear, self.space, level, gva):
                levels = [one for one in levels if one < level]
                reached = None if self._by_gpa else levels[0]
                break
        self.read, self.made = levels, {}
        for level in levels:
            self.made[level] = self._host(tables[level], host_levels) if level != reached else 0
            if level != levels[-1]:
                self._keep(self._linear, self.space, _kind(level), gva)
        self.made[0] = self._host(page, host_levels) if page is not None else 0
        return len(levels), sum(self.made.values())

    def invalidate(self, spaces: set[int], gva: int | None) -> None:
        """Drop what is tagged with one of `spaces`, in TLBs of the page that holds `gva` unless that is None.

        Of walk caches everything with those tags goes.
        """
        super().invalidate(spaces, gva)
        for array in (*self._linear.values(), *self._ept.values()):
            array.drop(spaces, None)

    def _host(self, address: GuestPhysical, host_levels: int) -> int:
        """Return the references to EPT that one guest-physical address takes."""
        if not self.ept_space:
            return 0
        for kind in (Kind.PAGE_4K, Kind.PAGE_2M, Kind.PAGE_1G):
            array = self._ept.get(kind)
            self.clock += 1
            if array and array.probe(self._key(self.ept_space, kind, address.gpa)) is not None:
                return 0
        leaf = (address.shift - 12) // 9 + 1
        levels = list(range(host_levels, leaf - 1, -1))
        for level in range(leaf + 1, host_levels + 1):
            if self._cached(self._ept, self.ept_space, level, address.gpa):
                levels = [one for one in levels if one < level]
                break
        for level in levels:
            kind = Kind(leaf - 1) if level == leaf else _kind(level)
            self._keep(self._ept, self.ept_space, kind, address.gpa)
        return len(levels)

    def _cached(self, arrays: dict[int, ReferenceArray], space: int, level: int, address: int) -> bool:
        array = arrays.get(_kind(level))
        self.clock += 1
        return array is not None and array.probe(self._key(space, _kind(level), address)) is not None

    def _keep(self, arrays: dict[int, ReferenceArray], space: int, kind: Kind, address: int) -> None:
        self.clock += 1
        if kind in arrays:
            arrays[kind].insert(self._key(space, kind, address), 0)

    @staticmethod
    def _key(space: int, kind: Kind, address: int) -> tuple[int, int, int]:
        return space, kind, address >> KIND_SHIFTS[kind]


def _kind(level: int) -> Kind:
    """Return what an entry at `level` (2 and up) that refers to a table is."""
    return Kind(Kind.PDE + level - 2)
