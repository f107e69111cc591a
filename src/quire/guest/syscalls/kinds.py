"""Kinds of arguments: how a register becomes what a handler takes, or what the host's call takes.

A kind has two sides. :meth:`Kind.value` checks a register and returns it as the handler wants it: a signed
number, the bytes of a path. :meth:`Kind.lower` and :meth:`Kind.finish` serve pass-through calls: they replace
a guest pointer with a bounce buffer, and copy the buffer back after the call. Every guest pointer is followed
through UserMemory only, and every size that a guest chooses is bounded before it allocates anything.
"""

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import Any

from quire.arch import LOW32, WORD
from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.load.root import under_root
from quire.guest.syscalls.host import HostBuffer, call
from quire.guest.syscalls.proc_names import host_name
from quire.own_descriptors import FIRST_OWN

__all__ = [
    "AT_FDCWD",
    "DIRECTORY",
    "FD",
    "GIVEN",
    "INT",
    "LINK",
    "LINK_AT",
    "NAME",
    "OPEN_FD",
    "PATH",
    "PATH_AT",
    "PATH_MAX",
    "POINTER",
    "S32",
    "S64",
    "SOCKET",
    "U32",
    "Arg",
    "Fd",
    "GivenPath",
    "HostCall",
    "In",
    "InOut",
    "Kind",
    "Out",
    "Path",
    "fail",
    "signed32",
    "signed64",
]

PATH_MAX = 4096
#: The descriptor that stands for the working directory.
AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_FCNTL, _GETFL = 72, 3
#: How names begin that may be of a process: absolute ones; numbers, self and thread-self in /proc itself.
_OF_PROC = tuple(bytes((one,)) for one in b"/0123456789st")
#: The most that a size from a guest's register makes Quire allocate for a bounce buffer.
_BOUNCE_LIMIT = 1 << 20


def fail(number: int) -> OSError:
    """Return the exception that makes the system call answer -`number`."""
    return OSError(number, errno.errorcode.get(number, "error"))


def signed32(value: int) -> int:
    """Return the low 32 bits as the C int they are."""
    value &= LOW32
    return value - (1 << 32) if value & 0x80000000 else value


def signed64(value: int) -> int:
    """Return a register as the C long it is."""
    value &= WORD
    return value - (1 << 64) if value >> 63 else value


@dataclass(slots=True)
class HostCall:
    """A pass-through call in preparation: the guest's registers, and the words that the host will get."""

    task: Task
    raw: tuple[int, ...]
    values: list[int]
    buffers: dict[int, HostBuffer] = field(default_factory=dict)


class Kind:
    """An argument that is taken as it is: a register's 64 bits."""

    #: Whether another argument may give the size of what this one points to.
    sized = False

    def value(self, task: Task, raw: int) -> Any:
        """Return the argument for a handler. Raises OSError(errno) or BadAddress for a bad one."""
        return raw

    def directory_of(self, raw: int, before: int) -> int:
        """Return the descriptor to which a path that follows is relative: `before`, unless this is one."""
        return before

    def file_of(self, group: ThreadGroup, raw: int, directory: int) -> bytes | None:
        """Return the path of the file that this names, relative to `directory`; None when it names none."""
        return None

    def lower(self, call: HostCall, index: int) -> None:
        """Put the host's word for argument `index` in `call.values`. Raises as :meth:`value` does."""
        call.values[index] = self.value(call.task, call.raw[index])

    def finish(self, call: HostCall, index: int, result: int) -> None:
        """Copy back what the host wrote. Called after success only. Raises BadAddress."""


class _Number(Kind):
    def __init__(self, bits: int, *, signed: bool) -> None:
        self._mask, self._sign = (1 << bits) - 1, 1 << (bits - 1) if signed else 0

    def value(self, task: Task, raw: int) -> int:
        raw &= self._mask
        return raw - 2 * self._sign if raw & self._sign else raw


@dataclass(frozen=True)
class Fd(Kind):
    """A descriptor, or AT_FDCWD. Quire's own ones do not exist for a guest: EBADF."""

    #: Whether a path that follows is relative to it.
    directory: bool = False
    #: Whether it must be open, and not for its path alone, before any other argument is looked at.
    opened: bool = False
    #: Whether it must be a socket before any other argument is looked at: ENOTSOCK.
    socket: bool = False

    def value(self, task: Task, raw: int) -> int:
        descriptor = signed32(raw)
        if descriptor >= FIRST_OWN:
            raise fail(errno.EBADF)
        if self.opened:
            flags = call(_FCNTL, descriptor, _GETFL)
            if flags < 0 or flags & os.O_PATH:
                raise fail(errno.EBADF)
            if self.socket and not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                raise fail(errno.ENOTSOCK)
        return descriptor

    def directory_of(self, raw: int, before: int) -> int:
        return signed32(raw) if self.directory else before


@dataclass(frozen=True)
class Path(Kind):
    """A path: a pointer to bytes that end with a zero. EFAULT, ENAMETOOLONG.

    `is_file` is not set for names of other things, such as attributes, `follow` not for calls that are about links;
    `flags` is the argument by which AT_SYMLINK_NOFOLLOW says so, `at` the one with the directory to which it is
    relative: a handler, which has both, asks itself what such a name means in /proc.
    """

    nullable: bool = False
    is_file: bool = True
    follow: bool = True
    flags: int | None = None
    at: int | None = None

    def file_of(self, group: ThreadGroup, raw: int, directory: int) -> bytes | None:
        named = self.is_file and (raw or not self.nullable)
        return self._read(group, raw, self.follow, directory) if named else None

    def value(self, task: Task, raw: int) -> bytes:
        return self._read(task, raw, self.follow, AT_FDCWD if self.at is None else None)

    @staticmethod
    def _given(group: ThreadGroup, raw: int) -> bytes:
        # One byte more than fits, so that a path which is too long is told from one that just fits.
        path = group.memory.read_cstring(raw, PATH_MAX)
        if len(path) >= PATH_MAX:
            raise fail(errno.ENAMETOOLONG)
        return path

    def _read(self, group: ThreadGroup, raw: int, follow: bool, directory: int | None) -> bytes:
        path = self._given(group, raw)
        if path[:1] not in _OF_PROC or not self.is_file or (directory is None and path[:1] != b"/"):
            return path
        found = host_name(group, path, AT_FDCWD if directory is None else directory)
        root = group.options.root
        if root and found == path:
            return os.fsencode(under_root(root, os.fsdecode(path), follow=follow))
        return found

    def lower(self, call: HostCall, index: int) -> None:
        if self.nullable and not call.raw[index]:
            return
        follow = self.follow if self.flags is None else not call.raw[self.flags] & _AT_SYMLINK_NOFOLLOW
        directory = AT_FDCWD if self.at is None else signed32(call.raw[self.at])
        path = self._read(call.task, call.raw[index], follow, directory)
        buffer = call.buffers[index] = HostBuffer(len(path) + 1, path)
        call.values[index] = buffer.address


class GivenPath(Path):
    """A path, as the guest calls it and as the host does."""

    def value(self, task: Task, raw: int) -> tuple[bytes, bytes]:  # type: ignore[override]
        return self._given(task, raw), super().value(task, raw)


@dataclass(frozen=True)
class Arg:
    """A size that another argument gives:

    `scale` bytes for each unit of argument `index`, a `bits` wide one.
    """

    index: int
    scale: int = 1
    bits: int = 64


@dataclass(frozen=True)
class _Buffer(Kind):
    size: int | Arg
    nullable: bool = False
    limit: int = _BOUNCE_LIMIT
    sized = True

    def value(self, task: Task, raw: int) -> int:
        return raw

    def _bytes(self, call: HostCall) -> int:
        """Return the size in bytes, and bring the argument that gave it down to the limit."""
        if isinstance(self.size, int):
            return self.size
        where = self.size
        units = call.raw[where.index] & ((1 << where.bits) - 1)
        if where.bits == 32 and units >> 31:
            raise fail(errno.EINVAL)  # a negative length, in each of Linux's calls that take a C int
        if units * where.scale > self.limit:
            units = self._over(units)
            call.values[where.index] = units
        return units * where.scale

    def _over(self, units: int) -> int:
        assert isinstance(self.size, Arg)
        return self.limit // self.size.scale

    def _make(self, call: HostCall, index: int, *, read: bool) -> None:
        pointer = call.raw[index]
        if self.nullable and not pointer:
            return
        size = self._bytes(call)
        data = call.task.memory.read(pointer, size) if read and size else b""
        buffer = call.buffers[index] = HostBuffer(size, data)
        call.values[index] = buffer.address


@dataclass(frozen=True)
class In(_Buffer):
    """Bytes that the host reads. A size over the limit is refused with `too_big`."""

    too_big: int = errno.EINVAL

    def lower(self, call: HostCall, index: int) -> None:
        self._make(call, index, read=True)

    def _over(self, units: int) -> int:
        raise fail(self.too_big)


@dataclass(frozen=True)
class Out(_Buffer):
    """Bytes that the host writes; with `by_result`, only as many (times `unit`) as the result says."""

    by_result: bool = False
    unit: int = 1

    def lower(self, call: HostCall, index: int) -> None:
        self._make(call, index, read=False)

    def finish(self, call: HostCall, index: int, result: int) -> None:
        buffer = call.buffers.get(index)
        if buffer is None:
            return
        data = buffer.take(result * self.unit if self.by_result else None)
        if data:
            call.task.memory.write(call.raw[index], data)


@dataclass(frozen=True)
class InOut(_Buffer):
    """Bytes that the host reads and writes."""

    def lower(self, call: HostCall, index: int) -> None:
        self._make(call, index, read=True)

    def finish(self, call: HostCall, index: int, result: int) -> None:
        buffer = call.buffers.get(index)
        if buffer is not None and buffer.size:
            call.task.memory.write(call.raw[index], buffer.take())


INT = Kind()
POINTER = Kind()
U32 = _Number(32, signed=False)
S32 = _Number(32, signed=True)
S64 = _Number(64, signed=True)
FD = Fd()
OPEN_FD = Fd(opened=True)
SOCKET = Fd(opened=True, socket=True)
DIRECTORY = Fd(directory=True)
PATH = Path()

GIVEN = GivenPath()
LINK = Path(follow=False)
PATH_AT, LINK_AT = Path(at=0), Path(follow=False, at=0)
NAME = Path(is_file=False)
