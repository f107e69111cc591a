"""mremap: growing, shrinking and moving a mapping with its pages.

Models Linux's mm/mremap.c. Pages move by their frames, nothing is copied. Contract: as of the other memory
calls; a failed call has changed nothing, but for the target of MREMAP_FIXED, which Linux too unmaps first.
"""

import errno

from quire.arch import WORD
from quire.guest.mm import linux
from quire.guest.mm.layout import find_gap
from quire.guest.mm.linux import PAGE_2M, PAGE_4K, TASK_SIZE, page_up
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.vma import Large, Vma
from quire.memory import OutOfFrames

__all__ = ["mremap"]

_FLAGS = linux.MREMAP_MAYMOVE | linux.MREMAP_FIXED | linux.MREMAP_DONTUNMAP


def mremap(space: MemoryMap, old: int, old_size: int, new_size: int, flags: int, new_addr: int) -> int:
    """Resize or move the mapping at `old`; return its address or a negative errno."""
    old, new_addr = old & WORD, new_addr & WORD
    old_size, new_size = page_up(old_size & WORD), page_up(new_size & WORD)
    wrong = _check(old, old_size, new_size, flags, new_addr)
    if wrong:
        return wrong
    if flags & linux.MREMAP_FIXED:
        failed = space.remove(new_addr, new_addr + new_size)
        if failed:
            return failed
    if new_size < old_size and not flags & linux.MREMAP_DONTUNMAP:
        failed = space.munmap(old + new_size, old_size - new_size)
        if failed:
            return failed
        old_size = new_size
    vma = space.areas.find(old)
    if vma is None or old + old_size > vma.end:
        return -errno.EFAULT
    if (old_size == 0 and not vma.shared) or vma.large is Large.ONLY:
        return -errno.EINVAL
    writable = bool(vma.prot & linux.PROT_WRITE) and not vma.shared
    if new_size > old_size and space.allowance.refuses(space.areas, new_size - old_size, data=writable):
        return -errno.ENOMEM
    if not flags & (linux.MREMAP_FIXED | linux.MREMAP_DONTUNMAP):
        if new_size == old_size:
            return old
        if old_size and _grow_in_place(space, vma, old + old_size, new_size - old_size):
            return old
    if not flags & linux.MREMAP_MAYMOVE:
        return -errno.ENOMEM
    return _move(space, vma, old, old_size, new_size, flags, new_addr)


def _check(old: int, old_size: int, new_size: int, flags: int, new_addr: int) -> int:
    if flags & ~_FLAGS or old % PAGE_4K or new_size == 0:
        return -errno.EINVAL
    moves = flags & (linux.MREMAP_FIXED | linux.MREMAP_DONTUNMAP)
    if moves and not flags & linux.MREMAP_MAYMOVE:
        return -errno.EINVAL
    if flags & linux.MREMAP_DONTUNMAP and old_size != new_size:
        return -errno.EINVAL
    if old + old_size > TASK_SIZE or new_size > TASK_SIZE:
        return -errno.EINVAL
    if not flags & linux.MREMAP_FIXED:
        return 0
    if new_addr % PAGE_4K or new_addr + new_size > TASK_SIZE:
        return -errno.EINVAL
    if new_addr < linux.MMAP_MIN_ADDR:
        return -errno.EPERM
    return -errno.EINVAL if old < new_addr + new_size and new_addr < old + old_size else 0


def _grow_in_place(space: MemoryMap, vma: Vma, end: int, more: int) -> bool:
    if vma.end != end or end + more > TASK_SIZE:
        return False
    _, above = space.areas.neighbours(vma.start)
    if above is not None and end + more > above.guarded_start:
        return False
    space.areas.extend(vma, end + more)
    return True


def _move(
    space: MemoryMap, vma: Vma, old: int, old_size: int, new_size: int, flags: int, new_addr: int
) -> int:
    large = vma.backing is None and new_size >= PAGE_2M and space.machine.page_size >= PAGE_2M
    target: int | None = new_addr
    if not flags & linux.MREMAP_FIXED:
        base = space.layout.mmap_base
        target = find_gap(space.areas, new_size, base, PAGE_2M) if large else None
        if target is None and old_size >= PAGE_2M:
            # Where it lies in its 2 MiB as before, so that tables move and not pages.
            offset = old % PAGE_2M
            found = find_gap(space.areas, new_size + offset, base, PAGE_2M)
            target = None if found is None else found + offset
        if target is None:
            target = find_gap(space.areas, new_size, base)
    if target is None or len(space.areas) >= linux.MAX_MAP_COUNT - 3:
        return -errno.ENOMEM
    try:
        space.pages.split_edges(old, old + old_size)
        with space.machine.together():
            space.pages.move(old, old_size, target, vma.rights)
    except OutOfFrames:
        return -errno.ENOMEM
    space.map_copy(vma, old, target, new_size)
    if not flags & linux.MREMAP_DONTUNMAP and old_size:
        space.remove(old, old + old_size)
    return target
