"""The guest-physical map of one machine: its regions, checked against each other and against the machine.

What no region covers is a hole. Memory belongs to a region of kind RAM or READ_ONLY, under the address that it has
there, its *origin*; an alias shows it at another.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from quire.errors import MisuseError
from quire.mmu.regions.region import Region, RegionKind, check_rights
from quire.paging import Rights

__all__ = ["MemoryRegions"]


class MemoryRegions:
    """The regions of a machine with `memory` bytes, `width` physical-address bits and host pages of `host_page` bytes.

    Every region is a multiple of host pages, so that each page behind the guest is a block of one size, of one region.
    `execute_only` says whether the processor has EPT leaves that allow fetches alone; `wxorx` makes W^X hold
    everywhere. Raises MisuseError for what cannot be.
    """

    def __init__(
        self,
        regions: Iterable[Region],
        *,
        memory: int,
        width: int,
        host_page: int,
        execute_only: bool = True,
        wxorx: bool = False,
    ) -> None:
        self._host_page, self._execute_only = host_page, execute_only
        found = sorted(regions, key=lambda one: one.start)
        if wxorx:
            found = [replace(one, wxorx=True) for one in found]
        for one in found:
            self._check_place(one, memory, width)
        for before, after in pairwise(found):
            if before.end > after.start:
                raise MisuseError(f"{after} overlaps {before}: begin at {before.end:#x} or later")
        self._put(found)
        for one in found:
            self._check_alias(one)
            self._check_rights(one)
        _check_shared(found)

    @property
    def regions(self) -> Sequence[Region]:
        """The regions in ascending order, with the rights that they have now."""
        return tuple(self._regions)

    @property
    def has_aliases(self) -> bool:
        """Whether any memory has more than one address."""
        return bool(self._aliases)

    def at(self, gpa: int) -> Region | None:
        """Return the region at guest-physical `gpa`, None for a hole."""
        n = bisect_right(self._starts, gpa) - 1
        if n < 0 or gpa >= self._regions[n].end:
            return None
        return self._regions[n]

    def origin(self, gpa: int) -> int:
        """Return the address that the memory at `gpa` has in the region that it belongs to."""
        region = self.at(gpa)
        return gpa if region is None else gpa - region.start + region.origin

    def names(self, gpa: int) -> list[int]:
        """Return every address of the memory at `gpa`, its origin first."""
        origin = self.origin(gpa)
        aliases = (
            one.start + origin - one.origin
            for one in self._aliases
            if one.origin <= origin < one.origin + one.size
        )
        return [origin, *aliases]

    def has_memory(self, start: int, size: int) -> bool:
        """Return whether there is memory at every one of `size` bytes from `start`."""
        return not any(
            region is None or region.kind is RegionKind.MMIO for region in self._within(start, size)
        )

    def contents(self, start: int, size: int) -> bytes:
        """Return what memory of the `size` bytes from `start` holds at first, the zeros behind left out."""
        region = self.at(start)
        return b"" if region is None else region.contents[start - region.start : start - region.start + size]

    def protected(self, start: int, size: int, rights: Rights) -> list[Region]:
        """Return what the regions are when `size` bytes from `start` have `rights`. Raises MisuseError if they cannot.

        A region of which this is a part becomes several.
        """
        if size <= 0 or (start | size) % self._host_page or start < 0:
            raise MisuseError(
                f"{size:#x} bytes from {start:#x} are no host pages: give multiples of "
                f"{self._host_page:#x}, at least one"
            )
        end = start + size
        for region in self._within(start, size):
            if region is None:
                raise MisuseError(
                    f"{start:#x} to {end:#x} has a hole in it: protect what a region covers, one range at a time"
                )
            check_rights(region, rights)
        found = [part for one in self._regions for part in _split(one, start, end, rights)]
        for one in found:
            self._check_rights(one)
        _check_shared(found)
        return found

    def put(self, regions: list[Region]) -> None:
        """Let `regions`, from :meth:`protected`, be what there is."""
        self._put(regions)

    def _put(self, regions: list[Region]) -> None:
        self._regions = regions
        self._starts = [one.start for one in regions]
        self._aliases = [one for one in regions if one.kind is RegionKind.ALIAS]

    def _within(self, start: int, size: int) -> Iterable[Region | None]:
        """Yield what there is from `start` on for `size` bytes: regions, and None where there is a hole."""
        at = start
        while at < start + size:
            region = self.at(at)
            yield region
            if region is None:
                return
            at = region.end

    def _check_place(self, region: Region, memory: int, width: int) -> None:
        if region.end > 1 << width:
            raise MisuseError(
                f"{region} needs more than the {width} physical address bits of the processor: stay "
                f"below {1 << width:#x}"
            )
        if region.end > memory:
            raise MisuseError(
                f"{region} is beyond the machine's memory, which ends at {memory:#x}: give the machine more, or move it"
            )
        if (region.start | region.size | region.origin) % self._host_page:
            raise MisuseError(
                f"{region} is not made of host pages: start, size and target must be multiples of "
                f"{self._host_page:#x}, or give the machine smaller host pages"
            )

    def _check_alias(self, alias: Region) -> None:
        if alias.kind is not RegionKind.ALIAS:
            return
        target = self.at(alias.origin)
        if target is None or target.kind is RegionKind.MMIO:
            what = "a hole" if target is None else str(target)
            raise MisuseError(
                f"{alias} shows {alias.origin:#x}, which is {what} and has no memory: give it an address in "
                "RAM or READ_ONLY"
            )
        if target.kind is RegionKind.ALIAS:
            raise MisuseError(
                f"{alias} shows {target}, which is an alias itself: give it {self.origin(alias.origin):#x}"
            )
        if alias.origin + alias.size > target.end:
            raise MisuseError(
                f"{alias} shows {alias.origin:#x} to {alias.origin + alias.size:#x}, beyond the end of "
                f"{target}: give it at most {target.end - alias.origin:#x} bytes"
            )

    def _check_rights(self, region: Region) -> None:
        if region.kind is not RegionKind.MMIO:
            check_rights(region, region.allowed)
        if region.allowed == Rights.EXECUTE and not self._execute_only:
            raise MisuseError(
                f"{region} cannot have EXECUTE rights alone: this processor's EPT has no such leaves; give READ too"
            )


def _split(region: Region, start: int, end: int, rights: Rights) -> list[Region]:
    """Return the parts of `region` before, within and behind the range, that within it with `rights`."""
    edges = [region.start, *(edge for edge in (start, end) if region.start < edge < region.end), region.end]
    parts = []
    for first, last in pairwise(edges):
        at = first - region.start
        part = replace(
            region,
            start=first,
            size=last - first,
            contents=region.contents[at : last - region.start],
            target=None if region.target is None else region.target + at,
            rights=rights if start <= first < end else region.rights,
        )
        parts.append(part)
    return parts


def _check_shared(regions: Sequence[Region]) -> None:
    """Raise MisuseError when W^X holds for memory that can be written at one address and executed at another."""
    for alias in (one for one in regions if one.kind is RegionKind.ALIAS):
        for other in regions:
            apart = alias.origin + alias.size <= other.origin or other.origin + other.size <= alias.origin
            if other is alias or other.kind is RegionKind.MMIO or apart:
                continue
            both = alias.allowed | other.allowed
            if (alias.wxorx or other.wxorx) and both & Rights.WRITE and both & Rights.EXECUTE:
                raise MisuseError(
                    f"{alias} and {other} show the same memory, which would be writable and executable: W^X allows one "
                    "of the two; protect the other first"
                )
