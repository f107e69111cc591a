"""Reading, writing and copying between descriptors."""

import errno
import os
from dataclasses import dataclass

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.mm.file_pages import refresh_file, sync_file
from quire.guest.syscalls import file_size, host
from quire.guest.syscalls.channels import reserve_file
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, OPEN_FD, POINTER, U32, fail, signed64
from quire.guest.syscalls.played import is_played
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, Segments, is_seeded, read_file, write_file

__all__ = ["segments_of"]

_MAX_SEGMENTS = 1024  # UIO_MAXIOV
_OUTPUT = Effect.OUTPUT


def segments_of(task: Task, pointer: int, count: int) -> Segments:
    """Return the ranges of a guest's struct iovec array. EINVAL for too many or too long ones, BadAddress."""
    count &= LOW32  # Linux looks at so much of it
    if count > _MAX_SEGMENTS:
        raise fail(errno.EINVAL)
    segments = task.memory.read_iovec(pointer, count) if count else []
    if any(length >> 63 for _, length in segments):
        raise fail(errno.EINVAL)
    return segments


def _offset(low: int) -> int:
    """Return a file position from a register, checked: EINVAL when negative."""
    offset = signed64(low)
    if offset < 0:
        raise fail(errno.EINVAL)
    return offset


@syscall(0, "read", FD, POINTER, INT, effect=Effect.INPUT, restart=True)
def read(task: Task, descriptor: int, pointer: int, count: int) -> int:
    """Read from a descriptor."""
    return read_file(task, descriptor, [(pointer, count)])


@syscall(1, "write", FD, POINTER, INT, effect=_OUTPUT, restart=True)
def write(task: Task, descriptor: int, pointer: int, count: int) -> int:
    """Write to a descriptor."""
    return write_file(task, descriptor, [(pointer, count)])


@syscall(17, "pread64", FD, POINTER, INT, INT, effect=Effect.INPUT, restart=True)
def pread64(task: Task, descriptor: int, pointer: int, count: int, offset: int) -> int:
    """Read at a position."""
    return read_file(task, descriptor, [(pointer, count)], _offset(offset))


@syscall(18, "pwrite64", FD, POINTER, INT, INT, effect=_OUTPUT, restart=True)
def pwrite64(task: Task, descriptor: int, pointer: int, count: int, offset: int) -> int:
    """Write at a position."""
    return write_file(task, descriptor, [(pointer, count)], _offset(offset))


@syscall(19, "readv", OPEN_FD, POINTER, INT, effect=Effect.INPUT, restart=True)
def readv(task: Task, descriptor: int, pointer: int, count: int) -> int:
    """Read into several ranges."""
    return read_file(task, descriptor, segments_of(task, pointer, count))


@syscall(20, "writev", OPEN_FD, POINTER, INT, effect=_OUTPUT, restart=True)
def writev(task: Task, descriptor: int, pointer: int, count: int) -> int:
    """Write several ranges."""
    return write_file(task, descriptor, segments_of(task, pointer, count))


@syscall(295, "preadv", OPEN_FD, POINTER, INT, INT, effect=Effect.INPUT, restart=True)
def preadv(task: Task, descriptor: int, pointer: int, count: int, offset: int) -> int:
    """Read into several ranges at a position."""
    return read_file(task, descriptor, segments_of(task, pointer, count), _offset(offset))


@syscall(296, "pwritev", OPEN_FD, POINTER, INT, INT, effect=_OUTPUT, restart=True)
def pwritev(task: Task, descriptor: int, pointer: int, count: int, offset: int) -> int:
    """Write several ranges at a position."""
    return write_file(task, descriptor, segments_of(task, pointer, count), _offset(offset))


def _offset_or_current(low: int) -> int:
    return -1 if signed64(low) == -1 else _offset(low)


@syscall(327, "preadv2", OPEN_FD, POINTER, INT, INT, INT, U32, effect=Effect.INPUT, restart=True)
def preadv2(
    task: Task, descriptor: int, pointer: int, count: int, offset: int, _high: int, flags: int
) -> int:
    """Read into several ranges with flags; position -1 is the file's own."""
    segments = segments_of(task, pointer, count)
    return read_file(task, descriptor, segments, _offset_or_current(offset), flags)


@syscall(328, "pwritev2", OPEN_FD, POINTER, INT, INT, INT, U32, effect=_OUTPUT, restart=True)
def pwritev2(
    task: Task, descriptor: int, pointer: int, count: int, offset: int, _high: int, flags: int
) -> int:
    """Write several ranges with flags; position -1 is the file's own."""
    segments = segments_of(task, pointer, count)
    return write_file(task, descriptor, segments, _offset_or_current(offset), flags)


@dataclass(slots=True)
class _End:
    """One end of a copy: a descriptor, and where the guest keeps its position; a null pointer is the file's own."""

    descriptor: int
    pointer: int
    position: host.HostBuffer | None

    @classmethod
    def of(cls, task: Task, descriptor: int, pointer: int) -> "_End":
        position = host.HostBuffer(8, task.memory.read(pointer, 8)) if pointer else None
        return cls(descriptor, pointer, position)

    @property
    def address(self) -> int:
        """Where the host reads and writes the position."""
        return self.position.address if self.position else 0

    def start(self) -> int:
        """Return where in the file the copy begins; 0 for what has no positions."""
        if self.position is not None:
            return int.from_bytes(self.position.take(), "little")
        flags = host.call(72, self.descriptor, 3)
        if flags >= 0 and flags & os.O_APPEND:
            return os.fstat(self.descriptor).st_size
        return max(host.call(8, self.descriptor, 0, os.SEEK_CUR), 0)

    def hand_back(self, task: Task) -> None:
        """Give the guest the position that the host moved."""
        if self.position is not None:
            task.memory.write(self.pointer, self.position.take())


def _copy_count(count: int) -> int:
    """Return how much one call copies; a negative number is the host's to refuse."""
    return count if count >> 63 else min(count, MAX_TRANSFER)


def _copy(task: Task, number: int, words: tuple[int, ...], source: _End, target: _End, count: int) -> int:
    """Make a host call that copies at most `count` bytes, and hand back the positions that it moved.

    EINVAL for /dev/urandom: only read() gives its seeded numbers, and a program falls back to that.
    """
    if is_seeded(source.descriptor) or is_played(task, source.descriptor, target.descriptor):
        return -errno.EINVAL
    if count >> 63:
        return host.call(number, *words)  # which refuses it
    start = target.start()
    reserve_file(task, target.descriptor, start + count)
    sync_file(task.space.pages, source.descriptor, source.start(), count)
    sync_file(task.space.pages, target.descriptor, start, count)
    moved = host.call(number, *words)
    if moved < 0:
        return moved
    source.hand_back(task)
    target.hand_back(task)
    refresh_file(task.space.pages, target.descriptor, start, moved)
    return moved


@syscall(40, "sendfile", FD, FD, POINTER, INT, effect=Effect.SENDS, restart=True)
def sendfile(task: Task, target: int, source: int, pointer: int, count: int) -> int:
    """Copy from a file to a descriptor within the kernel."""
    start, end = _End.of(task, source, pointer), _End(target, 0, None)
    count = file_size.writable(task, target, end.start(), _copy_count(count))
    words = (target, source, start.address, count)
    return _copy(task, 40, words, start, end, count)


def _copy_between(task: Task, number: int, ends: tuple[int, int, int, int], count: int, flags: int) -> int:
    source, target = _End.of(task, *ends[:2]), _End.of(task, *ends[2:])
    count = file_size.writable(task, target.descriptor, target.start(), _copy_count(count))
    words = (source.descriptor, source.address, target.descriptor, target.address, count, flags)
    return _copy(task, number, words, source, target, count)


_BETWEEN = (FD, POINTER, FD, POINTER, INT, U32)


@syscall(326, "copy_file_range", *_BETWEEN, effect=Effect.COPIES, restart=True)
def copy_file_range(task: Task, source: int, from_: int, target: int, to: int, count: int, flags: int) -> int:
    """Copy between two files within the kernel."""
    return _copy_between(task, 326, (source, from_, target, to), count, flags)


@syscall(275, "splice", *_BETWEEN, effect=Effect.COPIES, restart=True)
def splice(task: Task, source: int, from_: int, target: int, to: int, count: int, flags: int) -> int:
    """Move between a pipe and a file within the kernel."""
    return _copy_between(task, 275, (source, from_, target, to), count, flags)


@syscall(276, "tee", FD, FD, INT, U32, effect=Effect.TEES, restart=True)
def tee(task: Task, source: int, target: int, count: int, flags: int) -> int:
    """Duplicate what is in a pipe."""
    if is_played(task, source, target):
        return -errno.EINVAL
    return host.call(276, source, target, min(count, MAX_TRANSFER), flags)
