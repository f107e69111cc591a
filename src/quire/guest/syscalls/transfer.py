"""Moving bytes between descriptors and user memory without a copy: the host reads and writes guest pages.

User memory comes as page-sized views of host memory; their addresses go into one readv or writev, so that a
write to a pipe, a terminal or a socket stays as atomic as the guest made it. Only then is it cut, at the 1024
chunks that one call may name; a regular file gets the rest with another call.
"""

import errno
import os
import select
import stat

from quire.arch import Access
from quire.guest.kernel.played_files import PlayedFile
from quire.guest.kernel.task import Task
from quire.guest.mm.file_pages import refresh_file, sync_file
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import file_size, host
from quire.guest.syscalls.channels import reserve_file
from quire.guest.syscalls.pidfds import is_pidfd
from quire.guest.syscalls.played import read_played
from quire.guest.syscalls.ptys import typed
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.terminals import MASTER, await_key, may_read, may_write
from quire.guest.syscalls.waiting import (
    await_ready,
    doomed,
    interrupted,
    is_blocking,
    is_streaming,
    raise_sigpipe,
    ready,
)

__all__ = [
    "MAX_TRANSFER",
    "Segments",
    "check_ranges",
    "fill_seeded",
    "gather",
    "is_seeded",
    "read_file",
    "skip",
    "write_file",
]

#: Linux moves at most this many bytes with one call (MAX_RW_COUNT).
MAX_TRANSFER = 0x7FFFF000
_MAX_CHUNKS = 1024  # UIO_MAXIOV
#: A host address where nothing is mapped, and Linux lets nobody but user 0 map something.
_NOWHERE = 0
_PREADV2, _PWRITEV2 = 327, 328
#: What one call reads from a file whose size says nothing: a full pipe or socket holds no more.
_UNSIZED_BATCH = 256 << 10
_BATCH = 4 << 20  # 1024 chunks of 4 KiB
_CURRENT = -1  # preadv2: at the file's own position, which moves

#: Ranges of user memory: (gva, length).
Segments = list[tuple[int, int]]


def clip(segments: Segments, limit: int = MAX_TRANSFER) -> Segments:
    """Return the first `limit` bytes of `segments`."""
    clipped: Segments = []
    for gva, length in segments:
        length = min(length, limit)
        if length:
            clipped.append((gva, length))
        limit -= length
    return clipped


def _bytes(segments: Segments) -> int:
    return sum(length for _, length in segments)


def _leaves_user_space(segments: Segments) -> bool:
    """Whether a range is not of user space: Linux refuses it though nothing of it may be moved (access_ok)."""
    return any(gva + length > TASK_SIZE for gva, length in segments)


def check_ranges(segments: Segments) -> None:
    """Raise BadAddress for a range that leaves user space."""
    if _leaves_user_space(segments):
        raise BadAddress(segments[0][0])


def skip(segments: Segments, count: int) -> Segments:
    """Return `segments` without their first `count` bytes."""
    rest: Segments = []
    for gva, length in segments:
        passed = min(count, length)
        count -= passed
        if length > passed:
            rest.append((gva + passed, length - passed))
    return rest


def gather(task: Task, segments: Segments, access: Access, limit: int) -> list[tuple[int, int]]:
    """Return host (address, length) chunks of the first `limit` bytes, neighbours joined.

    From an address on that the guest may not access so, a chunk stands for the rest that the host cannot access either:
    what has been moved until then, and whether anything has, is what the guest's own kernel would have made of it.
    """
    chunks: list[tuple[int, int]] = []
    left = min(sum(length for _, length in segments), limit)
    try:
        for gva, length in clip(segments, limit):
            for view in task.memory.views(gva, length, access):
                address = host.address_of(view)
                if chunks and chunks[-1][0] + chunks[-1][1] == address:
                    chunks[-1] = chunks[-1][0], chunks[-1][1] + len(view)
                elif len(chunks) == _MAX_CHUNKS:
                    return chunks
                else:
                    chunks.append((address, len(view)))
                left -= len(view)
    except BadAddress:
        if len(chunks) < _MAX_CHUNKS:
            chunks.append((_NOWHERE, left))
    return chunks


def _is_random(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and host.device_of(status) in host.RANDOM_DEVICES


def is_seeded(descriptor: int) -> bool:
    """Whether a descriptor names /dev/random or /dev/urandom, by whatever number or name."""
    try:
        return _is_random(os.fstat(descriptor))
    except OSError:
        return False


def fill_seeded(task: Task, segments: Segments) -> int:
    """Fill user memory with the guest's seeded numbers; return how much. Raises BadAddress when nothing can be."""
    done = 0
    try:
        for gva, length in segments:
            for view in task.memory.views(gva, length, Access.WRITE):
                view[:] = task.rng.randbytes(len(view))
                done += len(view)
                if done % _UNSIZED_BATCH == 0 and interrupted(task):
                    return done
    except BadAddress:
        if not done:
            raise
    return done


def _move(task: Task, number: int, descriptor: int, segments: Segments, offset: int, flags: int) -> int:
    """Make as many preadv2 or pwritev2 calls as it takes; return the bytes moved, or -errno when none did."""
    access = Access.WRITE if number == _PREADV2 else Access.READ
    done = task.kept.get("moved", 0)
    segments = skip(segments, done)
    while segments:
        chunks = gather(task, segments, access, _BATCH)
        size = sum(length for _, length in chunks)
        vector = host.pack_iovecs(chunks)
        where = offset if offset == _CURRENT else offset + done
        # The position is two words, low and high; on a 64-bit machine the low one has all of it.
        whole = number == _PWRITEV2 and offset == _CURRENT and not flags
        words = (vector.address, len(chunks), where, 0, flags)
        try:
            moved = _move_once(task, number, descriptor, words, patient=whole or not done)
        except BlockingIOError:  # the socket's time is over
            moved = -errno.EAGAIN
        if moved < 0:
            return done or moved
        done += moved
        if moved < size:
            if not (whole and moved and is_streaming(descriptor)):
                break
            task.kept["moved"] = done  # what a write that waits for room has written so far
        segments = skip(segments, moved)
        if segments and doomed(task):
            break
    return done


def _move_once(task: Task, number: int, descriptor: int, words: tuple[int, ...], *, patient: bool) -> int:
    """Make one call that does not wait; where the guest's would, have it made again when it need not."""
    *rest, flags = words
    moved = host.call(number, descriptor, *rest, flags | os.RWF_NOWAIT)
    if moved == -errno.EOPNOTSUPP and not flags & os.RWF_NOWAIT:
        # Of what knows no such flag: regular files of some kinds, which never wait, terminals and event channels.
        events = select.POLLIN if number == _PREADV2 else select.POLLOUT
        if patient and not ready(descriptor, events) and is_blocking(descriptor):
            await_ready(task, descriptor, events)
        return host.call(number, descriptor, *rest, flags)
    if moved == -errno.EAGAIN and not flags & os.RWF_NOWAIT and is_blocking(descriptor):
        if host.is_regular(descriptor):
            return host.call(
                number, descriptor, *rest, flags
            )  # not in the host's memory yet: it will be soon
        if patient:
            await_ready(task, descriptor, select.POLLIN if number == _PREADV2 else select.POLLOUT)
    return moved


def _position(descriptor: int, offset: int) -> int:
    return host.call(8, descriptor, 0, os.SEEK_CUR) if offset == _CURRENT else offset


def read_file(task: Task, descriptor: int, segments: Segments, offset: int = _CURRENT, flags: int = 0) -> int:
    """Read into user memory and return the number of bytes, or -errno. Raises BadAddress (EFAULT).

    /dev/urandom and /dev/random give the guest's seeded numbers, so that a run can be repeated. Of a regular
    file no more memory is touched than the file can fill.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return -errno.EBADF
    outside = _leaves_user_space(segments)
    segments = clip(segments)
    if outside or not segments:
        return _host_zero(_PREADV2, descriptor, offset, flags) or (-errno.EFAULT if outside else 0)
    if _is_random(status):
        return fill_seeded(task, segments)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        start = _position(descriptor, offset)
        left = max(status.st_size - start, 1)
        if start >= 0:
            sync_file(task.space.pages, descriptor, start, min(_bytes(segments), left))
        return _move(task, _PREADV2, descriptor, clip(segments, left), offset, flags)
    if stat.S_ISCHR(status.st_mode):
        return _read_device(task, descriptor, status, segments, offset, flags)
    if stat.S_ISBLK(status.st_mode):
        return _move(task, _PREADV2, descriptor, segments, offset, flags)
    if is_pidfd(task, status):
        return -errno.EINVAL
    played = task.kernel.files.find(status)
    if played is not None:
        return _read_played_at(task, descriptor, played, segments, offset, flags)
    # One call only: more might have to be waited for, and a short read is what a program must expect here.
    return _move(task, _PREADV2, descriptor, clip(segments, _UNSIZED_BATCH), offset, flags)


def _read_device(
    task: Task, descriptor: int, status: os.stat_result, segments: Segments, offset: int, flags: int
) -> int:
    """Read from a character device: a terminal may be used from the foreground alone."""
    refused = may_read(task, status)
    if refused or await_key(task, descriptor, status):
        return refused
    moved = _move(task, _PREADV2, descriptor, segments, offset, flags)
    if moved == -errno.EIO:  # of Quire itself, which may be in the background by now, as of what hung up
        return may_read(task, status) or moved
    return moved


def _read_played_at(
    task: Task, descriptor: int, played: PlayedFile, segments: Segments, offset: int, flags: int
) -> int:
    if offset != _CURRENT:
        return -errno.ESPIPE
    return read_played(task, descriptor, played, segments, waits=not flags & os.RWF_NOWAIT)


def _host_zero(number: int, descriptor: int, offset: int, flags: int) -> int:
    """A transfer of nothing: only its errors matter."""
    return host.call(number, descriptor, 0, 0, offset, 0, flags)


def _write_end(descriptor: int, segments: Segments, offset: int) -> int:
    """Return how far a write could make a file reach: from its position, or appended."""
    start = max(_position(descriptor, offset), 0)
    flags = host.call(72, descriptor, 3)
    if flags >= 0 and flags & os.O_APPEND:
        start = os.fstat(descriptor).st_size
    return start + _bytes(segments)


def write_file(
    task: Task, descriptor: int, segments: Segments, offset: int = _CURRENT, flags: int = 0
) -> int:
    """Write user memory to a file and return the number of bytes, or -errno. Raises BadAddress (EFAULT).

    Pages of the file that the guest has mapped shared are brought up to date. Whoever writes to a pipe that
    nobody reads gets SIGPIPE.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return -errno.EBADF
    regular = stat.S_ISREG(status.st_mode)
    if stat.S_ISFIFO(status.st_mode) and (is_pidfd(task, status) or task.kernel.files.find(status)):
        return -errno.EINVAL
    outside = _leaves_user_space(segments)
    segments = clip(segments)
    if outside or not segments:
        return _host_zero(_PWRITEV2, descriptor, offset, flags) or (-errno.EFAULT if outside else 0)
    mapped = task.space.pages.shared.holds((status.st_dev, status.st_ino))
    if regular and (mapped or group_state(task).channels or file_size.is_limited(task)):
        end, size = _write_end(descriptor, segments, offset), _bytes(segments)
        segments = clip(segments, file_size.writable(task, descriptor, end - size, size))
        sync_file(task.space.pages, descriptor, end - size, size)
        reserve_file(task, descriptor, end)
    device = stat.S_ISCHR(status.st_mode)
    refused = may_write(task, descriptor, status) if device else 0
    if refused:
        return refused
    moved = _move(task, _PWRITEV2, descriptor, segments, offset, flags)
    if moved == -errno.EPIPE:
        raise_sigpipe(task)
    if moved > 0 and device and status.st_rdev == MASTER:
        typed(task, descriptor, b"".join(task.memory.read(*part) for part in clip(segments, moved)))
    if moved > 0 and regular and mapped:
        end = _position(descriptor, offset)
        start = end - moved if offset == _CURRENT else offset
        refresh_file(task.space.pages, descriptor, start, moved)
    return moved
