"""What goes through sockets: bytes, messages, and descriptors with them; refused in a sandbox."""

import errno
import select
import socket as posix
import struct
from collections.abc import Callable, Iterator

from quire.arch import Access
from quire.guest.kernel.named_queues import NotifyFile
from quire.guest.kernel.task import Task
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import host
from quire.guest.syscalls.connections import ADDRESS_MAX, asked_length
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.io import segments_of
from quire.guest.syscalls.kinds import FD, INT, POINTER, S32, SOCKET, U32, fail
from quire.guest.syscalls.played import read_played
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, Segments, check_ranges, gather, skip
from quire.guest.syscalls.waiting import is_blocking, patiently, raise_sigpipe
from quire.own_descriptors import FIRST_OWN

_OTHERS = Effect.OTHERS
_CONTROL_MAX = 20480  # net.core.optmem_max
_MESSAGE = struct.Struct("<QIIQQQQIi")  # struct msghdr
_CONTROL = struct.Struct("<Qii")  # struct cmsghdr
_SENDMSG, _RECVMSG, _GETSOCKOPT = 46, 47, 55
#: What never waits for all of its bytes.
_NOT_ALL = posix.MSG_DONTWAIT | posix.MSG_PEEK | posix.MSG_ERRQUEUE
_BATCH = 4 << 20
_MESSAGES_MAX = 1024  # UIO_MAXIOV
_MESSAGE_IN_ARRAY = 64  # struct mmsghdr
_WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE


def _chunks(task: Task, segments: list[tuple[int, int]], access: Access) -> tuple[host.HostBuffer, int]:
    """Return a struct iovec array for the guest's ranges, and its length."""
    check_ranges(segments)
    chunks = gather(task, segments, access, _BATCH)
    return host.pack_iovecs(chunks), len(chunks)


def _vectors(task: Task, pointer: int, count: int) -> Segments:
    if count > _MESSAGES_MAX:
        raise fail(errno.EMSGSIZE)
    return segments_of(task, pointer, count)


def _message(
    name: host.HostBuffer | None, vector: tuple[host.HostBuffer, int], extra: host.HostBuffer | None
) -> host.HostBuffer:
    """Return struct msghdr for an address, ranges and control data."""
    words = (name.address, name.size) if name else (0, 0)
    more = (extra.address, extra.size) if extra and extra.size else (0, 0)
    return host.HostBuffer(_MESSAGE.size, _MESSAGE.pack(*words, 0, vector[0].address, vector[1], *more, 0, 0))


def _is_stream(descriptor: int) -> bool:
    kind, length = host.HostBuffer(4), host.HostBuffer(4, struct.pack("<i", 4))
    result = host.call(_GETSOCKOPT, descriptor, posix.SOL_SOCKET, posix.SO_TYPE, kind.address, length.address)
    return result >= 0 and int.from_bytes(kind.take(), "little") == posix.SOCK_STREAM


def _waits_for_all(descriptor: int, flags: int) -> bool:
    """Whether a call goes on until all of its bytes are moved."""
    return not flags & _NOT_ALL and is_blocking(descriptor) and _is_stream(descriptor)


def _move(task: Task, segments: Segments, key: str, whole: bool, once: Callable[[Segments], int]) -> int:
    """Move bytes by `once`, again and again until all are if `whole`; `key` is where the call keeps how many were."""
    total = sum(length for _, length in segments)
    while True:
        done = task.kept.get(key, 0)
        try:
            result = once(skip(segments, done))
        except BlockingIOError:  # the socket's time is over
            result = -errno.EAGAIN
        if result > 0 and whole and done + result < total:
            task.kept[key] = done + result
            continue
        task.kept.pop(key, None)
        return done + result if result >= 0 else done or result


def _send(
    task: Task,
    descriptor: int,
    name: host.HostBuffer | None,
    extra: host.HostBuffer | None,
    segments: Segments,
    flags: int,
    key: str = "moved",
) -> int:
    def once(left: Segments) -> int:
        more = None if key in task.kept else extra
        vector = _chunks(task, left, Access.READ)  # here as long as the host looks at it
        message = _message(name, vector, more)
        return patiently(
            task,
            descriptor,
            select.POLLOUT,
            flags | posix.MSG_NOSIGNAL,
            lambda how: host.call(_SENDMSG, descriptor, message.address, how),
        )

    result = _move(task, segments, key, _waits_for_all(descriptor, flags), once)
    if result == -errno.EPIPE and not flags & posix.MSG_NOSIGNAL:
        raise_sigpipe(task)
    return result


@syscall(44, "sendto", FD, POINTER, INT, U32, POINTER, S32, effect=_OTHERS, restart=True)
def sendto(task: Task, descriptor: int, pointer: int, count: int, flags: int, to: int, length: int) -> int:
    """Send bytes, to an address if one is given."""
    name = None
    if to:
        if not 0 <= length <= ADDRESS_MAX:
            return -errno.EINVAL
        name = host.HostBuffer(length, task.memory.read(to, length))
    return _send(task, descriptor, name, None, [(pointer, min(count, MAX_TRANSFER))], flags)


class _Received:
    """What a call that receives gets beside the bytes: an address and control data, in buffers of the host's."""

    def __init__(self, name: host.HostBuffer | None, extra: host.HostBuffer | None) -> None:
        self.name, self.extra = name, extra
        self.name_length = self.extra_length = self.flags = 0

    def take(self, task: Task, descriptor: int, segments: Segments, flags: int, key: str = "moved") -> int:
        """Receive; return how many bytes, or -errno."""

        def once(left: Segments) -> int:
            vector = _chunks(task, left, Access.WRITE)  # here as long as the host looks at it
            message = _message(self.name, vector, self.extra)
            result = patiently(
                task,
                descriptor,
                select.POLLIN,
                flags,
                lambda how: host.call(_RECVMSG, descriptor, message.address, how),
            )
            _, self.name_length, _, _, _, _, self.extra_length, self.flags, _ = _MESSAGE.unpack(
                message.take()
            )
            return result

        whole = bool(flags & posix.MSG_WAITALL) and not self.extra and _waits_for_all(descriptor, flags)
        return _move(task, segments, key, whole, once)


@syscall(45, "recvfrom", FD, POINTER, INT, U32, POINTER, POINTER, effect=_OTHERS, restart=True)
def recvfrom(
    task: Task, descriptor: int, pointer: int, count: int, flags: int, source: int, length: int
) -> int:
    """Receive bytes, and where they came from if that is asked for."""
    segments = [(pointer, min(count, MAX_TRANSFER))]
    played = task.kernel.files.named(descriptor) if task.kernel.files else None
    if isinstance(played, NotifyFile):
        return read_played(task, descriptor, played, segments, waits=not flags & posix.MSG_DONTWAIT)
    asked = asked_length(task, length, ADDRESS_MAX) if source else 0
    received = _Received(host.HostBuffer(ADDRESS_MAX) if source else None, None)
    result = received.take(task, descriptor, segments, flags)
    if result >= 0 and received.name is not None:
        task.memory.write(source, received.name.take(min(asked, received.name_length)))
        task.memory.write_u32(length, received.name_length)
    return result


def _passed(control: bytes) -> Iterator[int]:
    """Yield the descriptors that control messages pass. Raises EINVAL for a message that is none."""
    at = 0
    while at + _CONTROL.size <= len(control):
        length, level, kind = _CONTROL.unpack_from(control, at)
        if length < _CONTROL.size or at + length > len(control):
            raise fail(errno.EINVAL)
        if (level, kind) == (posix.SOL_SOCKET, posix.SCM_RIGHTS):
            passed = control[at + _CONTROL.size : at + length]
            for (number,) in struct.iter_unpack("<i", passed[: len(passed) // 4 * 4]):
                yield number
        at += (length + 7) & ~7


def _send_message(task: Task, descriptor: int, pointer: int, flags: int, key: str = "moved") -> int:
    fields = _MESSAGE.unpack(task.memory.read(pointer, _MESSAGE.size))
    to, length, _, vectors, count, control, control_length, _, _ = fields
    if length >> 31:
        return -errno.EINVAL
    length = min(length, ADDRESS_MAX)
    if control_length > _CONTROL_MAX:
        return -errno.ENOBUFS
    name = host.HostBuffer(length, task.memory.read(to, length)) if to and length else None
    data = task.memory.read(control, control_length) if control_length else b""
    if any(number >= FIRST_OWN for number in _passed(data)):
        return -errno.EBADF  # one of Quire's
    extra = host.HostBuffer(len(data), data)
    return _send(task, descriptor, name, extra, _vectors(task, vectors, count), flags, key)


@syscall(_SENDMSG, "sendmsg", SOCKET, POINTER, U32, effect=_OTHERS, restart=True)
def sendmsg(task: Task, descriptor: int, pointer: int, flags: int) -> int:
    """Send a message, with an address and control data if given."""
    return _send_message(task, descriptor, pointer, flags)


def _receive_message(task: Task, descriptor: int, pointer: int, flags: int, key: str = "moved") -> int:
    fields = _MESSAGE.unpack(task.memory.read(pointer, _MESSAGE.size))
    source, length, pad, vectors, count, control, control_length, _, pad2 = fields
    if length >> 31:
        return -errno.EINVAL
    name = host.HostBuffer(min(length, ADDRESS_MAX)) if source else None
    extra = host.HostBuffer(min(control_length, _CONTROL_MAX)) if control and control_length else None
    received = _Received(name, extra)
    result = received.take(task, descriptor, _vectors(task, vectors, count), flags, key)
    if result < 0:
        return result
    got_control = received.extra_length
    if name is not None:
        task.memory.write(source, name.take(received.name_length))
    if extra is not None and got_control:
        for passed in _passed(extra.take(got_control)):
            group_state(task).opened.add(passed)
            task.kernel.files.adopt(task.process.seat, passed)
        task.memory.write(control, extra.take(got_control))
    answer = (source, received.name_length, pad, vectors, count, control, got_control, received.flags, pad2)
    task.memory.write(pointer, _MESSAGE.pack(*answer))
    return result


@syscall(_RECVMSG, "recvmsg", SOCKET, POINTER, U32, effect=_OTHERS, restart=True)
def recvmsg(task: Task, descriptor: int, pointer: int, flags: int) -> int:
    """Receive a message, with where it came from and its control data."""
    return _receive_message(task, descriptor, pointer, flags)


def _each_message(
    task: Task,
    descriptor: int,
    pointer: int,
    count: int,
    flags: int,
    one: Callable[[Task, int, int, int, str], int],
) -> int:
    """Send or receive messages one by one until one cannot be; return how many, or the error of the first."""
    done = task.kept.get("moved", 0)
    try:
        while done < min(count, _MESSAGES_MAX):
            place = pointer + done * _MESSAGE_IN_ARRAY
            moved = one(
                task, descriptor, place, flags if not done else flags & ~_WAIT_FOR_ONE | _later(flags), "part"
            )
            if moved < 0:
                return done or moved
            task.memory.write_u32(place + _MESSAGE.size, moved)
            task.kept["moved"] = done = done + 1
    except (BadAddress, OSError):
        if not done:
            raise
    return done


def _later(flags: int) -> int:
    return posix.MSG_DONTWAIT if flags & _WAIT_FOR_ONE else 0


@syscall(307, "sendmmsg", SOCKET, POINTER, U32, U32, effect=_OTHERS, restart=True)
def sendmmsg(task: Task, descriptor: int, pointer: int, count: int, flags: int) -> int:
    """Send several messages."""
    return _each_message(task, descriptor, pointer, count, flags, _send_message)


@syscall(299, "recvmmsg", SOCKET, POINTER, U32, U32, POINTER, effect=_OTHERS, restart=True)
def recvmmsg(task: Task, descriptor: int, pointer: int, count: int, flags: int, timeout: int) -> int:
    """Receive several messages. The time is looked at between messages, as Linux does: there it ends the call."""
    if not timeout:
        return _each_message(task, descriptor, pointer, count, flags, _receive_message)
    seconds, nanos = struct.unpack("<qq", task.memory.read(timeout, 16))
    if seconds < 0 or not 0 <= nanos < 1_000_000_000:
        return -errno.EINVAL
    clock = task.kernel.clock
    end = task.kept.setdefault("end", clock.now() + min(seconds, 1 << 32) * 1_000_000_000 + nanos)

    def until_then(task: Task, descriptor: int, place: int, flags: int, key: str) -> int:
        if place != pointer and clock.now() >= end:
            return -errno.EAGAIN
        return _receive_message(task, descriptor, place, flags, key)

    done = _each_message(task, descriptor, pointer, count, flags, until_then)
    if done > 0:
        left = max(end - clock.now(), 0)
        task.memory.write(timeout, struct.pack("<qq", *divmod(left, 1_000_000_000)))
    return done
