"""System V shared memory, of the guest's own kernel: shmget, shmat, shmdt, shmctl."""

import errno
import struct

from quire.arch import LOW32, WORD
from quire.guest.kernel.ipc import SHMMNI, Segment
from quire.guest.kernel.ipc_objects import READ, WRITE, refuse
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K, PROT_EXEC, PROT_READ, PROT_WRITE, page_up
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.ipc import INFO, REMOVE, SET, STAT, caller, describe, origin, owned
from quire.guest.syscalls.kinds import INT, POINTER, S32
from quire.guest.syscalls.table import syscall

#: SHMMAX in bytes, SHMALL in pages: no limit of their own.
_MOST, _MOST_PAGES = WORD - (1 << 24), WORD - (1 << 24)
_NORESERVE, _HUGE = 0o10000, 0o4000
_READ_ONLY, _ROUND, _REMAP, _EXECUTE = 0o10000, 0o20000, 0o40000, 0o100000
_LOCK, _UNLOCK, _SHM_STAT, _SHM_INFO, _STAT_ANY = 11, 12, 13, 14, 15
_DOOMED, _LOCKED = 0o1000, 0o2000
_PERM_BYTES, _SEGMENT_BYTES = 48, 112


def _make(task: Task, key: int, size: int, flags: int) -> Segment:
    """Return a new segment. EINVAL for its size, ENOMEM for more than the guest can have."""
    if not 0 < size < 1 << 63:  # files cannot be longer
        raise refuse(errno.EINVAL)
    if flags & _HUGE or (not flags & _NORESERVE and size > task.space.allowance.at_once):
        raise refuse(errno.ENOMEM)
    memory = task.space.files.shared_memory(b"/SYSV%08x (deleted)" % (key & LOW32))
    return Segment(
        **origin(task, key, flags),
        size=size,
        memory=memory,
        maker=task.process.pid,
    )


@syscall(29, "shmget", S32, INT, S32, effect=Effect.PLAYED)
def shmget(task: Task, key: int, size: int, flags: int) -> int:
    """Return the segment for a key, or a new one."""
    ipc = task.kernel.ipc
    ipc.forget_segments()

    def check(known: Segment) -> None:
        if known.size < size:
            raise refuse(errno.EINVAL)

    return ipc.segments.get(key, flags, caller(task), lambda: _make(task, key, size, flags), check)


@syscall(30, "shmat", S32, POINTER, S32, effect=Effect.PLAYED)
def shmat(task: Task, ident: int, address: int, flags: int) -> int:
    """Map a segment at an address, or where there is room."""
    ipc = task.kernel.ipc
    if ident < 0:
        return -errno.EINVAL
    if address % PAGE_4K:
        if not flags & _ROUND:
            return -errno.EINVAL
        address -= address % PAGE_4K
    if flags & _REMAP and not address:
        return -errno.EINVAL
    ipc.forget_segments()
    segment = ipc.segments.find(ident)
    prot, needs = PROT_READ, READ
    if not flags & _READ_ONLY:
        prot, needs = prot | PROT_WRITE, needs | WRITE
    if flags & _EXECUTE:
        prot, needs = prot | PROT_EXEC, needs | 0o111
    segment.check(needs, caller(task))
    backing = segment.memory.read_only() if flags & _READ_ONLY else segment.memory
    start = task.space.attach(address, segment.size, prot, backing, replaces=bool(flags & _REMAP))
    if start >= 0:
        segment.attached, segment.user = ipc.now(), task.process.pid
    return start


@syscall(67, "shmdt", POINTER, effect=Effect.PLAYED)
def shmdt(task: Task, address: int) -> int:
    """Unmap a segment that is mapped at an address."""
    ipc = task.kernel.ipc
    memory = None if address % PAGE_4K else task.space.detach(address)
    if memory is None:
        return -errno.EINVAL
    for segment in ipc.segments:
        if segment.memory is memory:
            segment.detached, segment.user = ipc.now(), task.process.pid
    ipc.forget_segments()
    return 0


def _structure(segment: Segment) -> bytes:
    """Return struct shmid64_ds."""
    permissions = bytearray(segment.permissions())
    mode = segment.mode | _DOOMED * segment.doomed | _LOCKED * segment.locked
    struct.pack_into("<I", permissions, 20, mode)
    times = segment.attached, segment.detached, segment.changed
    numbers = segment.maker, segment.user, segment.attachments
    return bytes(permissions) + struct.pack("<4QIIQQQ", segment.size, *times, *numbers, 0, 0)


def _limits() -> bytes:
    """Return struct shminfo64."""
    return struct.pack("<9Q", _MOST, 1, SHMMNI, SHMMNI, _MOST_PAGES, 0, 0, 0, 0)


def _usage(task: Task) -> bytes:
    """Return struct shm_info."""
    segments = list(task.kernel.ipc.segments)
    pages = sum(page_up(one.size) // PAGE_4K for one in segments)
    resident = sum(len(task.space.pages.shared.of(one.memory.key)) for one in segments)
    return struct.pack("<Q5Q", len(segments), pages, resident, 0, 0, 0)


def _remove(task: Task, segment: Segment) -> None:
    """Have a segment go with its last mapping, and be found by no key any more."""
    if not segment.doomed:
        segment.doomed = True
        task.kernel.ipc.segments.hide(segment)
        task.space.let_go(segment.memory)
        task.kernel.ipc.forget_segments()


def _lock(task: Task, segment: Segment, command: int) -> int:
    who = caller(task)
    if who.users.effective not in (segment.uid, segment.creator[0]) and not capable(task):
        return -errno.EPERM
    segment.locked = command == _LOCK
    return 0


@syscall(31, "shmctl", S32, S32, POINTER, effect=Effect.PLAYED)
def shmctl(task: Task, ident: int, command: int, pointer: int) -> int:
    """Look at a segment, change it or remove it; or look at all."""
    ipc = task.kernel.ipc
    if command < 0 or ident < 0:
        return -errno.EINVAL
    ipc.forget_segments()
    segments = ipc.segments
    if command in (INFO, _SHM_INFO):
        task.memory.write(pointer, _limits() if command == INFO else _usage(task))
        return segments.highest
    if command in (STAT, _SHM_STAT, _STAT_ANY):
        index, anybody = command != STAT, command == _STAT_ANY
        return describe(task, segments, ident, pointer, _structure, by_index=index, by_anybody=anybody)
    if command == REMOVE:
        _remove(task, owned(task, segments, ident))
        return 0
    if command == SET:
        words = task.memory.read(pointer, _SEGMENT_BYTES)
        owned(task, segments, ident).change(words[:_PERM_BYTES], ipc.now())
        return 0
    return _lock(task, segments.find(ident), command) if command in (_LOCK, _UNLOCK) else -errno.EINVAL
