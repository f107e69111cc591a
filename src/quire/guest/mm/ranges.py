"""What a process asks about ranges of its memory: may they be locked, what has a frame, what is written back."""

import errno
from bisect import bisect_left

from quire.arch import WORD
from quire.guest.mm.linux import (
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PAGE_2M,
    PAGE_4K,
    TASK_SIZE,
    page_down,
    page_up,
)
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.uaccess import UserMemory

__all__ = ["lock", "mincore", "msync"]

#: Addresses of which mincore tells at a time.
_MINCORE_CHUNK = PAGE_4K << 18


def lock(space: MemoryMap, addr: int, length: int) -> int:
    """Say whether a range may be locked: ENOMEM for a hole, or for memory that nobody may touch."""
    addr, end = page_down(addr & WORD), page_up((addr & WORD) + (length & WORD))
    if addr == end & WORD:
        return 0
    if end > WORD:
        return -errno.EINVAL
    if not space.areas.covered(addr, end):
        return -errno.ENOMEM
    return 0 if all(vma.prot for vma in space.areas.overlapping(addr, end)) else -errno.ENOMEM


def msync(space: MemoryMap, addr: int, length: int, flags: int) -> int:
    """Write the dirty shared pages of a range to their files."""
    addr, end = addr & WORD, (addr & WORD) + (page_up(length & WORD) & WORD)
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or addr % PAGE_4K:
        return -errno.EINVAL
    if flags & MS_ASYNC and flags & MS_SYNC:
        return -errno.EINVAL
    if end > WORD:
        return -errno.ENOMEM
    result = 0
    for page in space.pages.shared_in(addr, end):
        result = space.pages.shared.write_back(page) or result
    return result or (0 if space.areas.covered(addr, end) else -errno.ENOMEM)


def mincore(space: MemoryMap, addr: int, length: int, vector: int) -> int:
    """Write one byte for each page of the range to user address `vector`: 1 for a page with a frame.

    Return 0 or a negative errno. Raises BadAddress when the guest may not write there.
    """
    addr, end = addr & WORD, (addr & WORD) + page_up(length & WORD)
    if addr % PAGE_4K:
        return -errno.EINVAL
    if end > TASK_SIZE or not space.areas.covered(addr, end):
        return -errno.ENOMEM
    memory = UserMemory(space.machine, space)
    small, large = space.pages.residents()
    for chunk in range(addr, end, _MINCORE_CHUNK):
        stop = min(end, chunk + _MINCORE_CHUNK)
        found = bytearray((stop - chunk) // PAGE_4K)
        for page in small[bisect_left(small, chunk) : bisect_left(small, stop)]:
            found[(page - chunk) // PAGE_4K] = 1
        for region in large[bisect_left(large, page_down(chunk) - PAGE_2M + 1) : bisect_left(large, stop)]:
            first, last = max(region, chunk), min(region + PAGE_2M, stop)
            pages = max(last - first, 0) // PAGE_4K
            at = (first - chunk) // PAGE_4K
            found[at : at + pages] = b"\1" * pages
        space.pages.pause()
        memory.write(vector + (chunk - addr) // PAGE_4K, found)
    return 0
