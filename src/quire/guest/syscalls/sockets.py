"""Sockets: the host's own, refused in a sandbox."""

import errno
import select
import socket as posix
import struct
import time
from collections.abc import Callable, Iterator

from quire.arch import Access
from quire.guest.kernel.task import Task
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import host
from quire.guest.syscalls.descriptors import deliver_pair
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.io import segments_of
from quire.guest.syscalls.kinds import FD, INT, POINTER, S32, SOCKET, U32, Arg, In, fail
from quire.guest.syscalls.state import admit, group_state
from quire.guest.syscalls.table import passes, syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, Segments, check_ranges, gather
from quire.guest.syscalls.waiting import await_ready, is_blocking, patiently, raise_sigpipe, ready
from quire.own_descriptors import FIRST_OWN

_OTHERS = Effect.OTHERS
_ADDRESS_MAX = 128  # struct sockaddr_storage
_OPTION_MAX = 4096
_CONTROL_MAX = 20480  # net.core.optmem_max
_MESSAGE = struct.Struct("<QIIQQQQIi")  # struct msghdr
_CONTROL = struct.Struct("<Qii")  # struct cmsghdr
_SENDMSG, _RECVMSG = 46, 47
_BATCH = 4 << 20
_MESSAGES_MAX = 1024  # UIO_MAXIOV
_MESSAGE_IN_ARRAY = 64  # struct mmsghdr
_WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE
_ADDRESS = In(Arg(2, bits=32), limit=_ADDRESS_MAX)

passes(41, "socket", INT, INT, INT, opens=True, effect=_OTHERS)
passes(42, "connect", SOCKET, _ADDRESS, INT, effect=_OTHERS, restart=True)
passes(49, "bind", SOCKET, _ADDRESS, INT, effect=_OTHERS, creates=True)
passes(50, "listen", FD, INT, effect=_OTHERS)
passes(48, "shutdown", FD, INT, effect=_OTHERS)
_OPTION = In(Arg(4, bits=32), nullable=True, limit=_OPTION_MAX)
passes(54, "setsockopt", FD, INT, INT, _OPTION, INT, effect=_OTHERS)


@syscall(53, "socketpair", S32, S32, S32, POINTER, effect=_OTHERS)
def socketpair(task: Task, family: int, kind: int, protocol: int, pointer: int) -> int:
    """Make two connected sockets."""
    ends = host.HostBuffer(8)
    result = host.call(53, family, kind, protocol, ends.address)
    return result if result < 0 else deliver_pair(task, ends.take(), pointer)


def _asked_length(task: Task, pointer: int, limit: int) -> int:
    """Return a socklen_t that the guest gives by reference, cut to what the host could want."""
    length = task.memory.read_i32(pointer)
    if length < 0:
        raise fail(errno.EINVAL)
    return min(length, limit)


def _with_address(
    task: Task, number: int, descriptor: int, pointer: int, length_pointer: int, *more: int
) -> int:
    """Make a call that returns an address: in a buffer, and its true length by reference."""
    if not pointer:
        return host.call(number, descriptor, 0, 0, *more)
    asked = _asked_length(task, length_pointer, _ADDRESS_MAX)
    address = host.HostBuffer(_ADDRESS_MAX)
    length = host.HostBuffer(4, struct.pack("<i", asked))
    result = host.call(number, descriptor, address.address, length.address, *more)
    if result >= 0:
        true_length = int.from_bytes(length.take(), "little")
        task.memory.write(pointer, address.take(min(asked, true_length)))
        task.memory.write_u32(length_pointer, true_length)
    return result


def _accept(task: Task, descriptor: int, pointer: int, length_pointer: int, flags: int) -> int:
    if is_blocking(descriptor) and not ready(descriptor, select.POLLIN):
        await_ready(descriptor, select.POLLIN)
    result = _with_address(task, 288, descriptor, pointer, length_pointer, flags)
    return admit(task, result) if result >= 0 else result


@syscall(43, "accept", FD, POINTER, POINTER, effect=_OTHERS, restart=True)
def accept(task: Task, descriptor: int, pointer: int, length: int) -> int:
    """Take a connection."""
    return _accept(task, descriptor, pointer, length, 0)


@syscall(288, "accept4", FD, POINTER, POINTER, U32, effect=_OTHERS, restart=True)
def accept4(task: Task, descriptor: int, pointer: int, length: int, flags: int) -> int:
    """Take a connection, with flags for its descriptor."""
    return _accept(task, descriptor, pointer, length, flags)


@syscall(51, "getsockname", FD, POINTER, POINTER, effect=Effect.GUEST)
def getsockname(task: Task, descriptor: int, pointer: int, length: int) -> int:
    """Return the address of this end."""
    return _with_address(task, 51, descriptor, pointer or 1, length)


@syscall(52, "getpeername", FD, POINTER, POINTER, effect=Effect.GUEST)
def getpeername(task: Task, descriptor: int, pointer: int, length: int) -> int:
    """Return the address of the other end."""
    return _with_address(task, 52, descriptor, pointer or 1, length)


@syscall(55, "getsockopt", FD, S32, S32, POINTER, POINTER, effect=Effect.INPUT)
def getsockopt(
    task: Task, descriptor: int, level: int, option: int, pointer: int, length_pointer: int
) -> int:
    """Return an option of a socket."""
    asked = _asked_length(task, length_pointer, _OPTION_MAX)
    value, length = host.HostBuffer(asked), host.HostBuffer(4, struct.pack("<i", asked))
    result = host.call(55, descriptor, level, option, value.address, length.address)
    if result >= 0:
        got = int.from_bytes(length.take(), "little")
        task.memory.write(pointer, value.take(min(got, asked)))
        task.memory.write_u32(length_pointer, got)
    return result


def _chunks(task: Task, segments: list[tuple[int, int]], access: Access) -> tuple[host.HostBuffer, int]:
    """Return a struct iovec array for the guest's ranges, and its length."""
    check_ranges(segments)
    chunks = gather(task, segments, access, _BATCH)
    return host.pack_iovecs(chunks), len(chunks)


def _vectors(task: Task, pointer: int, count: int) -> Segments:
    if count > _MESSAGES_MAX:
        raise fail(errno.EMSGSIZE)
    return segments_of(task, pointer, count)


def _plain_message(name: host.HostBuffer | None, vector: tuple[host.HostBuffer, int]) -> host.HostBuffer:
    return host.HostBuffer(
        _MESSAGE.size,
        _MESSAGE.pack(
            name.address if name else 0, name.size if name else 0, 0, vector[0].address, vector[1], 0, 0, 0, 0
        ),
    )


def _send(task: Task, descriptor: int, message: host.HostBuffer, flags: int) -> int:
    result = patiently(
        descriptor,
        select.POLLOUT,
        flags | posix.MSG_NOSIGNAL,
        lambda how: host.call(_SENDMSG, descriptor, message.address, how),
    )
    if result == -errno.EPIPE and not flags & posix.MSG_NOSIGNAL:
        raise_sigpipe(task)
    return result


@syscall(44, "sendto", FD, POINTER, INT, U32, POINTER, S32, effect=_OTHERS, restart=True)
def sendto(task: Task, descriptor: int, pointer: int, count: int, flags: int, to: int, length: int) -> int:
    """Send bytes, to an address if one is given."""
    name = None
    if to:
        if not 0 <= length <= _ADDRESS_MAX:
            return -errno.EINVAL
        name = host.HostBuffer(length, task.memory.read(to, length))
    vector = _chunks(task, [(pointer, min(count, MAX_TRANSFER))], Access.READ)
    return _send(task, descriptor, _plain_message(name, vector), flags)


def _receive(descriptor: int, message: host.HostBuffer, flags: int) -> int:
    return patiently(
        descriptor, select.POLLIN, flags, lambda how: host.call(_RECVMSG, descriptor, message.address, how)
    )


@syscall(45, "recvfrom", FD, POINTER, INT, U32, POINTER, POINTER, effect=_OTHERS, restart=True)
def recvfrom(
    task: Task, descriptor: int, pointer: int, count: int, flags: int, source: int, length: int
) -> int:
    """Receive bytes, and where they came from if that is asked for."""
    asked = _asked_length(task, length, _ADDRESS_MAX) if source else 0
    name = host.HostBuffer(_ADDRESS_MAX) if source else None
    vector = _chunks(task, [(pointer, min(count, MAX_TRANSFER))], Access.WRITE)
    message = _plain_message(name, vector)
    result = _receive(descriptor, message, flags)
    if result >= 0 and name is not None:
        true_length = _MESSAGE.unpack(message.take())[1]
        task.memory.write(source, name.take(min(asked, true_length)))
        task.memory.write_u32(length, true_length)
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


def _send_message(task: Task, descriptor: int, pointer: int, flags: int) -> int:
    fields = _MESSAGE.unpack(task.memory.read(pointer, _MESSAGE.size))
    to, length, _, vectors, count, control, control_length, _, _ = fields
    if length >> 31:
        return -errno.EINVAL
    length = min(length, _ADDRESS_MAX)
    if control_length > _CONTROL_MAX:
        return -errno.ENOBUFS
    name = host.HostBuffer(length, task.memory.read(to, length)) if to and length else None
    data = task.memory.read(control, control_length) if control_length else b""
    if any(number >= FIRST_OWN for number in _passed(data)):
        return -errno.EBADF  # one of Quire's
    extra = host.HostBuffer(len(data), data)
    vector, chunks = _chunks(task, _vectors(task, vectors, count), Access.READ)
    packed = _MESSAGE.pack(
        name.address if name else 0,
        name.size if name else 0,
        0,
        vector.address,
        chunks,
        extra.address if data else 0,
        len(data),
        0,
        0,
    )
    return _send(task, descriptor, host.HostBuffer(_MESSAGE.size, packed), flags)


@syscall(_SENDMSG, "sendmsg", SOCKET, POINTER, U32, effect=_OTHERS, restart=True)
def sendmsg(task: Task, descriptor: int, pointer: int, flags: int) -> int:
    """Send a message, with an address and control data if given."""
    return _send_message(task, descriptor, pointer, flags)


def _receive_message(task: Task, descriptor: int, pointer: int, flags: int) -> int:
    fields = _MESSAGE.unpack(task.memory.read(pointer, _MESSAGE.size))
    source, length, pad, vectors, count, control, control_length, _, pad2 = fields
    if length >> 31:
        return -errno.EINVAL
    name = host.HostBuffer(min(length, _ADDRESS_MAX)) if source else None
    extra = host.HostBuffer(min(control_length, _CONTROL_MAX) if control else 0)
    vector, chunks = _chunks(task, _vectors(task, vectors, count), Access.WRITE)
    packed = _MESSAGE.pack(
        name.address if name else 0,
        name.size if name else 0,
        0,
        vector.address,
        chunks,
        extra.address if extra.size else 0,
        extra.size,
        0,
        0,
    )
    message = host.HostBuffer(_MESSAGE.size, packed)
    result = _receive(descriptor, message, flags)
    if result < 0:
        return result
    _, got_name, _, _, _, _, got_control, got_flags, _ = _MESSAGE.unpack(message.take())
    if name is not None:
        task.memory.write(source, name.take(got_name))
    if got_control:
        for passed in _passed(extra.take(got_control)):
            group_state(task).opened.add(passed)
            task.kernel.files.adopt(task.process.seat, passed)
        task.memory.write(control, extra.take(got_control))
    answer = (source, got_name, pad, vectors, count, control, got_control, got_flags, pad2)
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
    one: Callable[[Task, int, int, int], int],
) -> int:
    """Send or receive messages one by one until one cannot be; return how many, or the error of the first."""
    done = 0
    try:
        while done < min(count, _MESSAGES_MAX):
            place = pointer + done * _MESSAGE_IN_ARRAY
            moved = one(
                task, descriptor, place, flags if not done else flags & ~_WAIT_FOR_ONE | _later(flags)
            )
            if moved < 0:
                return done or moved
            task.memory.write_u32(place + _MESSAGE.size, moved)
            done += 1
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
    end = time.monotonic() + min(seconds, 1 << 40) + nanos / 1e9

    def until_then(task: Task, descriptor: int, place: int, flags: int) -> int:
        if place != pointer and time.monotonic() >= end:
            return -errno.EAGAIN
        return _receive_message(task, descriptor, place, flags)

    done = _each_message(task, descriptor, pointer, count, flags, until_then)
    if done > 0:
        left = max(int((end - time.monotonic()) * 1e9), 0)
        task.memory.write(timeout, struct.pack("<qq", *divmod(left, 1_000_000_000)))
    return done
