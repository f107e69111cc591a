"""madvise: what a process says of a range of its memory, and what that does.

Models Linux's mm/madvise.c: bad advice and bad ranges first, then area by area; the first area that cannot take the
advice ends it, a hole does not, but is ENOMEM at the end.
"""

import errno
import signal
from collections.abc import Callable

from quire.arch import WORD
from quire.guest.mm import linux
from quire.guest.mm.backing import FileBacking
from quire.guest.mm.huge_pages import collapse, says
from quire.guest.mm.linux import PAGE_4K, page_up
from quire.guest.mm.mapping import MemoryMap
from quire.guest.mm.vma import Large, OnFork, Vma
from quire.memory import OutOfFrames

__all__ = ["madvise"]


def madvise(space: MemoryMap, addr: int, length: int, advice: int) -> int:
    """Follow `advice` about a range; return 0 or a negative errno."""
    addr, end = addr & WORD, (addr & WORD) + page_up(length & WORD)
    if advice not in linux.MADVICE or addr % PAGE_4K or end > WORD:
        return -errno.EINVAL
    act = _ACTS.get(advice, _nothing)
    covered = addr
    for vma in space.areas.overlapping(addr, end):
        if advice in _POPULATES and vma.start > covered:
            return -errno.ENOMEM
        failed = act(space, vma, max(vma.start, addr), min(vma.end, end))
        if failed:
            return failed
        covered = vma.end if vma.start <= covered else covered
    return 0 if covered >= end or space.areas.covered(addr, end) else -errno.ENOMEM


def _nothing(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    return 0


def _drop(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    try:
        space.pages.split_edges(start, end)
    except OutOfFrames:
        return -errno.ENOMEM
    with space.machine.together():
        space.pages.drop(start, end)
    return 0


def _on_fork(what: OnFork) -> Callable[[MemoryMap, Vma, int, int], int]:
    """Return what has a child get `what` of an area."""

    def act(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
        if what is OnFork.WIPED and vma.backing is not None:
            return -errno.EINVAL
        space.set_on_fork(start, end, what)
        return 0

    return act


def _own_memory(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    """Refuse what has a file behind it or is shared; pages that may go stay."""
    return 0 if vma.backing is None else -errno.EINVAL


def _remove(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    """Punch a hole into what is shared: everybody reads zeros there."""
    if vma.backing is None:
        return -errno.EINVAL
    if not vma.shared or not vma.backing.writable:
        return -errno.EACCES
    first = vma.offset_at(start)
    failed = vma.backing.punch(first, end - start) if isinstance(vma.backing, FileBacking) else 0
    if not failed:
        space.pages.shared.zero(vma.backing.key, first, end - start)
    return failed


def _populate(space: MemoryMap, vma: Vma, start: int, end: int, right: int) -> int:
    if not vma.prot & right:
        return -errno.EINVAL
    failed = space.populate(start, end)
    if failed is None:
        return 0
    return -(errno.ENOMEM if failed.signo == signal.SIGKILL else errno.EFAULT)


def _populate_read(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    return _populate(space, vma, start, end, linux.PROT_READ | linux.PROT_WRITE | linux.PROT_EXEC)


def _populate_write(space: MemoryMap, vma: Vma, start: int, end: int) -> int:
    return _populate(space, vma, start, end, linux.PROT_WRITE)


_POPULATES = frozenset((linux.MADV_POPULATE_READ, linux.MADV_POPULATE_WRITE))
_ACTS: dict[int, Callable[[MemoryMap, Vma, int, int], int]] = {
    linux.MADV_DONTNEED: _drop,
    linux.MADV_DONTNEED_LOCKED: _drop,
    linux.MADV_FREE: _own_memory,
    linux.MADV_REMOVE: _remove,
    linux.MADV_DONTFORK: _on_fork(OnFork.LEFT_OUT),
    linux.MADV_DOFORK: _on_fork(OnFork.COPIED),
    linux.MADV_WIPEONFORK: _on_fork(OnFork.WIPED),
    linux.MADV_KEEPONFORK: _on_fork(OnFork.COPIED),
    linux.MADV_POPULATE_READ: _populate_read,
    linux.MADV_POPULATE_WRITE: _populate_write,
    linux.MADV_COLLAPSE: collapse,
    linux.MADV_HUGEPAGE: says(Large.WANTED),
    linux.MADV_NOHUGEPAGE: says(Large.UNWANTED),
}
