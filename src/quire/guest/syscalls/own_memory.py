"""Calls that name a process by its number, for the one that there is: a descriptor of it, and copies of its memory."""

import errno
import os

from quire.arch import Access
from quire.guest.kernel.task import Task
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.io import segments_of
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32
from quire.guest.syscalls.state import admit
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, Segments, check_ranges, clip

_PIDFD_OPEN = 434
_PIECE = 64 << 10


@syscall(_PIDFD_OPEN, "pidfd_open", S32, U32, effect=Effect.GUEST)
def pidfd_open(task: Task, target: int, flags: int) -> int:
    """Return a descriptor of the guest's own process; of others EPERM, since what it does would be Quire's."""
    if target not in (os.getpid(), 0) and target > 0 and os.path.exists(f"/proc/{target}"):
        return -errno.EPERM
    result = host.call(_PIDFD_OPEN, target, flags)
    return admit(task, result) if result >= 0 else result


@syscall(310, "process_vm_readv", S32, POINTER, INT, POINTER, INT, INT, effect=Effect.GUEST)
def process_vm_readv(
    task: Task, target: int, local: int, local_count: int, remote: int, remote_count: int, flags: int
) -> int:
    """Copy from the remote ranges to the local ones."""
    return _copy(task, target, (local, local_count), (remote, remote_count), flags, reads=True)


@syscall(311, "process_vm_writev", S32, POINTER, INT, POINTER, INT, INT, effect=Effect.GUEST)
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
    if target != os.getpid():
        known = target > 0 and os.path.exists(f"/proc/{target}")
        return -errno.EPERM if known else -errno.ESRCH
    return _move(task, there, here) if reads else _move(task, here, there)


def _move(task: Task, sources: Segments, targets: Segments) -> int:
    """Copy as far as both sides reach; return how much. Raises BadAddress when nothing could be."""
    sources, targets, done = clip(sources, MAX_TRANSFER), clip(targets, MAX_TRANSFER), 0
    try:
        while sources and targets:
            (start, left), (to, room) = sources[0], targets[0]
            count = min(left, room, _PIECE)
            for view in task.memory.views(start, count, Access.READ):
                task.memory.write(to, bytes(view))
                to, start, done = to + len(view), start + len(view), done + len(view)
            sources[0], targets[0] = (start, left - count), (to, room - count)
            sources = sources if sources[0][1] else sources[1:]
            targets = targets if targets[0][1] else targets[1:]
    except BadAddress:
        if not done:
            raise
    return done
