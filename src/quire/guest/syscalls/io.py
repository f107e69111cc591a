"""Reading, writing and copying between descriptors."""

import errno
import os

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.syscalls import file_size, host
from quire.guest.syscalls.channels import reserve_file
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, OPEN_FD, POINTER, SYNCED_FD, U32, fail, signed64
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


def _read_position(task: Task, pointer: int) -> host.HostBuffer | None:
    return host.HostBuffer(8, task.memory.read(pointer, 8)) if pointer else None


def _copy_count(count: int) -> int:
    """Return how much one call copies; a negative number is the host's to refuse."""
    return count if count >> 63 else min(count, MAX_TRANSFER)


def _copy_end(target: int, position: host.HostBuffer | None, count: int) -> int:
    """Return how far a copy of `count` bytes could make the file `target` reach."""
    if position is not None:
        return int.from_bytes(position.take(), "little") + count
    try:
        size = os.fstat(target).st_size  # with O_APPEND it begins there
    except OSError:
        return 0
    return max(size, host.call(8, target, 0, os.SEEK_CUR)) + count


def _copy(
    task: Task,
    number: int,
    words: tuple[int, ...],
    source: int,
    target: int,
    positions: tuple[tuple[int, host.HostBuffer | None], ...],
    end: int,
) -> int:
    """Make a host call that copies to the descriptor `target`, at most to `end` of it; hand back moved positions.

    EINVAL for /dev/urandom: only read() gives its seeded numbers, and a program falls back to that.
    """
    if is_seeded(source):
        return -errno.EINVAL
    reserve_file(task, target, end)
    moved = host.call(number, *words)
    if moved < 0:
        return moved
    for pointer, position in positions:
        if position is not None:
            task.memory.write(pointer, position.take())
    if moved:
        # Where it went is the host's knowledge (O_APPEND, a position or none): all of the file is refreshed.
        task.space.refresh_file(target, 0, MAX_TRANSFER)
    return moved


@syscall(40, "sendfile", SYNCED_FD, SYNCED_FD, POINTER, INT, effect=_OUTPUT, restart=True)
def sendfile(task: Task, target: int, source: int, pointer: int, count: int) -> int:
    """Copy from a file to a descriptor within the kernel."""
    position = _read_position(task, pointer)
    count = _copy_count(count)
    end = _copy_end(target, None, count)
    count = file_size.writable(task, target, end - count, count)
    words = (target, source, position.address if position else 0, count)
    return _copy(task, 40, words, source, target, ((pointer, position),), end)


def _copy_between(task: Task, number: int, ends: tuple[int, int, int, int], count: int, flags: int) -> int:
    source, from_, target, to = ends
    start, end = _read_position(task, from_), _read_position(task, to)
    first, second = start.address if start else 0, end.address if end else 0
    count = _copy_count(count)
    reach = _copy_end(target, end, count)
    count = file_size.writable(task, target, reach - count, count)
    words = (source, first, target, second, count, flags)
    return _copy(task, number, words, source, target, ((from_, start), (to, end)), reach)


_BETWEEN = (SYNCED_FD, POINTER, SYNCED_FD, POINTER, INT, U32)


@syscall(326, "copy_file_range", *_BETWEEN, effect=Effect.OUTPUT_2, restart=True)
def copy_file_range(task: Task, source: int, from_: int, target: int, to: int, count: int, flags: int) -> int:
    """Copy between two files within the kernel."""
    return _copy_between(task, 326, (source, from_, target, to), count, flags)


@syscall(275, "splice", *_BETWEEN, effect=Effect.OUTPUT_2, restart=True)
def splice(task: Task, source: int, from_: int, target: int, to: int, count: int, flags: int) -> int:
    """Move between a pipe and a file within the kernel."""
    return _copy_between(task, 275, (source, from_, target, to), count, flags)


@syscall(276, "tee", FD, FD, INT, U32, effect=Effect.OUTPUT_1, restart=True)
def tee(task: Task, source: int, target: int, count: int, flags: int) -> int:
    """Duplicate what is in a pipe."""
    return host.call(276, source, target, min(count, MAX_TRANSFER), flags)
