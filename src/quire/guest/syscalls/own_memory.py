"""Copies between the memories of two processes."""

import errno

from quire.guest.kernel.group import Image, loaded
from quire.guest.kernel.task import Task
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.io import segments_of
from quire.guest.syscalls.kinds import INT, POINTER, S32
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, Segments, check_ranges, clip

_PIECE = 64 << 10


@syscall(310, "process_vm_readv", S32, POINTER, INT, POINTER, INT, INT, effect=Effect.PLAYED)
def process_vm_readv(
    task: Task, target: int, local: int, local_count: int, remote: int, remote_count: int, flags: int
) -> int:
    """Copy from the remote ranges to the local ones."""
    return _copy(task, target, (local, local_count), (remote, remote_count), flags, reads=True)


@syscall(311, "process_vm_writev", S32, POINTER, INT, POINTER, INT, INT, effect=Effect.PLAYED)
def process_vm_writev(
    task: Task, target: int, local: int, local_count: int, remote: int, remote_count: int, flags: int
) -> int:
    """Copy from the local ranges to the remote ones."""
    return _copy(task, target, (local, local_count), (remote, remote_count), flags, reads=False)


def _copy(
    task: Task, target: int, local: tuple[int, int], remote: tuple[int, int], flags: int, *, reads: bool
) -> int:
    if flags:
        return -errno.EINVAL
    here = segments_of(task, *local)
    check_ranges(here)
    here = clip(here)
    if not here:
        return 0
    there = [part for part in segments_of(task, *remote) if part[1]]
    if not there:
        return 0
    other = task.kernel.task(target)
    if other is None:
        return -errno.ESRCH
    ends = (other.process.image, task.process.image)
    return _move(ends, there, here) if reads else _move(ends[::-1], here, there)


def _move(ends: tuple[Image, Image], sources: Segments, targets: Segments) -> int:
    """Copy from one memory to the other as far as both reach; return how much. Raises BadAddress when nothing could be.

    The caller's own is loaded before and after.
    """
    sources, targets, done = clip(sources, MAX_TRANSFER), clip(targets, MAX_TRANSFER), 0
    try:
        while sources and targets:
            (start, left), (to, room) = sources[0], targets[0]
            count = min(left, room, _PIECE)
            with loaded(ends[0]) as memory:
                data = memory.read_up_to(start, count)
            with loaded(ends[1]) as memory:
                memory.write(to, data)
            done += len(data)
            if len(data) < count:
                break
            sources[0], targets[0] = (start + count, left - count), (to + count, room - count)
            sources = sources if sources[0][1] else sources[1:]
            targets = targets if targets[0][1] else targets[1:]
    except BadAddress:
        if not done:
            raise
    return done
