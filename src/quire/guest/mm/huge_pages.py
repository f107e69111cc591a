"""Pages of 2 MiB that a program asks for: MAP_HUGETLB, and MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE.

Models mm/hugetlb.c as far as private anonymous memory goes, with a pool that is all of guest memory: mmap takes the
frames, or says ENOMEM as a host without reserved pages does. After fork the one who writes first gets small pages.
"""

import errno
from collections.abc import Callable

from quire.guest.mm import linux
from quire.guest.mm.linux import PAGE_2M
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.vma import Large, Vma

__all__ = ["collapse", "map_huge", "says"]

#: Where flags of mmap have log2 of the page size: 0 for the usual one.
_SIZE_SHIFT, _SIZE_MASK = 26, 0x3F
_SIZE_2M, _SIZE_1G = 21, 30


def map_huge(space: MemoryMap, addr: int, length: int, prot: int, flags: int) -> int:
    """Map `length` bytes by pages of 2 MiB, which are there at once; return their address or a negative errno."""
    size = flags >> _SIZE_SHIFT & _SIZE_MASK
    if size not in (0, _SIZE_2M, _SIZE_1G) or not flags & linux.MAP_ANONYMOUS:
        return -errno.EINVAL  # no size of this processor's; a file that is none of hugetlbfs
    if size == _SIZE_1G or flags & linux.MAP_TYPE != linux.MAP_PRIVATE:
        return -errno.ENOMEM
    length = -(-length // PAGE_2M) * PAGE_2M
    plain = flags & ~(linux.MAP_HUGETLB | linux.MAP_POPULATE | _SIZE_MASK << _SIZE_SHIFT)
    if plain & (linux.MAP_FIXED | linux.MAP_FIXED_NOREPLACE):
        if addr % PAGE_2M:
            return -errno.EINVAL
    else:
        addr = space.reserve(length, PAGE_2M)
        if addr < 0:
            return addr
        plain |= linux.MAP_FIXED_NOREPLACE
    start = space.mmap(addr, length, prot, plain, -1, 0)
    if start < 0:
        return start
    space.set_large(start, start + length, Large.ONLY)
    vma = space.areas.find(start)
    assert vma is not None, "it has just been mapped"
    if not all(space.pages.collapse(region, vma.rights) for region in range(start, start + length, PAGE_2M)):
        space.remove(start, start + length)
        return -errno.ENOMEM
    return start


def says(what: Large) -> Callable[[MemoryMap, Vma, int, int], int]:
    """Return the act of madvise that notes `what` of an area."""

    def act(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
        if vma.large is not Large.ONLY:
            space.set_large(start, end, what)
        return 0

    return act


def collapse(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    """MADV_COLLAPSE: give each 2 MiB that lie in the range and the area one page. ENOMEM when one cannot be had."""
    first, last = -(-max(vma.start, start) // PAGE_2M) * PAGE_2M, min(vma.end, end) // PAGE_2M * PAGE_2M
    if vma.backing is not None or -(-vma.start // PAGE_2M) * PAGE_2M + PAGE_2M > vma.end:
        return -errno.EINVAL
    for region in range(first, last, PAGE_2M):
        space.pages.pause()
        if not space.pages.collapse(region, vma.rights):
            return -errno.ENOMEM
    return 0
