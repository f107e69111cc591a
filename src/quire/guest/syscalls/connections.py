"""Sockets: made, named, connected and asked; the host's own, refused in a sandbox."""

import errno
import os
import select
import struct

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.descriptors import deliver_pair
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, POINTER, S32, SOCKET, U32, Arg, In, fail
from quire.guest.syscalls.state import admit
from quire.guest.syscalls.table import passes, syscall
from quire.guest.syscalls.waiting import await_ready, is_blocking, ready, wait_for_room

__all__ = ["ADDRESS_MAX", "asked_length"]

_OTHERS = Effect.OTHERS
ADDRESS_MAX = 128  # struct sockaddr_storage
_OPTION_MAX = 4096
_CONNECT, _FCNTL, _GETFL, _SETFL = 42, 72, 3, 4
_ADDRESS = In(Arg(2, bits=32), limit=ADDRESS_MAX)

passes(41, "socket", INT, INT, INT, opens=True, effect=_OTHERS)
passes(49, "bind", SOCKET, _ADDRESS, INT, effect=_OTHERS, creates=True)
passes(50, "listen", FD, INT, effect=_OTHERS)
passes(48, "shutdown", FD, INT, effect=_OTHERS)
_OPTION = In(Arg(4, bits=32), nullable=True, limit=_OPTION_MAX)
passes(54, "setsockopt", FD, INT, INT, _OPTION, INT, effect=_OTHERS)


@syscall(_CONNECT, "connect", SOCKET, POINTER, S32, effect=_OTHERS, restart=True)
def connect(task: Task, descriptor: int, pointer: int, length: int) -> int:
    """Connect a socket, and wait until it is, or for as long as SO_SNDTIMEO says: then EINPROGRESS."""
    if not 0 <= length <= ADDRESS_MAX:
        return -errno.EINVAL
    address = host.HostBuffer(length, task.memory.read(pointer, length) if length else b"")
    if not is_blocking(descriptor):
        return host.call(_CONNECT, descriptor, address.address, length)
    if "connecting" in task.kept and not ready(descriptor, select.POLLOUT):
        await_ready(task, descriptor, select.POLLOUT, errno.EINPROGRESS)
    result = _start_connecting(descriptor, address)  # which says how it ended, if it had been started
    if result == -errno.EAGAIN:  # its queue is full, and no event will tell when it is not
        wait_for_room(task, descriptor)
    if result not in (-errno.EINPROGRESS, -errno.EALREADY):
        return result
    task.kept["connecting"] = 1
    await_ready(task, descriptor, select.POLLOUT, errno.EINPROGRESS)


def _start_connecting(descriptor: int, address: host.HostBuffer) -> int:
    """Make the host's call without waiting: only O_NONBLOCK says so to it."""
    flags = host.call(_FCNTL, descriptor, _GETFL)
    host.call(_FCNTL, descriptor, _SETFL, flags | os.O_NONBLOCK)
    try:
        return host.call(_CONNECT, descriptor, address.address, address.size)
    finally:
        host.call(_FCNTL, descriptor, _SETFL, flags)


@syscall(53, "socketpair", S32, S32, S32, POINTER, effect=_OTHERS)
def socketpair(task: Task, family: int, kind: int, protocol: int, pointer: int) -> int:
    """Make two connected sockets."""
    ends = host.HostBuffer(8)
    result = host.call(53, family, kind, protocol, ends.address)
    return result if result < 0 else deliver_pair(task, ends.take(), pointer)


def asked_length(task: Task, pointer: int, limit: int) -> int:
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
    asked = asked_length(task, length_pointer, ADDRESS_MAX)
    address = host.HostBuffer(ADDRESS_MAX)
    length = host.HostBuffer(4, struct.pack("<i", asked))
    result = host.call(number, descriptor, address.address, length.address, *more)
    if result >= 0:
        true_length = int.from_bytes(length.take(), "little")
        task.memory.write(pointer, address.take(min(asked, true_length)))
        task.memory.write_u32(length_pointer, true_length)
    return result


def _accept(task: Task, descriptor: int, pointer: int, length_pointer: int, flags: int) -> int:
    if is_blocking(descriptor) and not ready(descriptor, select.POLLIN):
        await_ready(task, descriptor, select.POLLIN)
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
    asked = asked_length(task, length_pointer, _OPTION_MAX)
    value, length = host.HostBuffer(asked), host.HostBuffer(4, struct.pack("<i", asked))
    result = host.call(55, descriptor, level, option, value.address, length.address)
    if result >= 0:
        got = int.from_bytes(length.take(), "little")
        task.memory.write(pointer, value.take(min(got, asked)))
        task.memory.write_u32(length_pointer, got)
    return result
