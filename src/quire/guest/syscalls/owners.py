"""Who gets signals of an open file: F_SETOWN and its like of fcntl, and what sockets have of them in ioctl.

The host keeps it with the open file: a thread of Quire's for the one of the guest who is meant. Models f_setown and
f_getown in Linux's fs/fcntl.c.
"""

import errno
import os
import stat
import struct
from functools import partial

from quire.guest.kernel.group import INIT
from quire.guest.kernel.owners import is_there
from quire.guest.kernel.siginfo import Owner, OwnerKind
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import fail, signed32

__all__ = [
    "get_owner",
    "get_owner_of_socket",
    "set_owner",
    "set_owner_of_socket",
    "signed",
    "whom",
    "whom_by",
]

_FCNTL = 72
_SETOWN, _SETOWN_EX, _GETOWN_EX = 8, 15, 16
#: struct f_owner_ex: what kind of number, and the number.
_OWNER = struct.Struct("<Ii")
_LEAST = -(1 << 31)


def whom(number: int) -> Owner | None:
    """Return whom F_SETOWN means: a process, a group by its negative, None for nobody. EINVAL for the least number."""
    if number == _LEAST:
        raise fail(errno.EINVAL)
    if number < 0:
        return Owner(OwnerKind.GROUP, -number)
    return Owner(OwnerKind.PROCESS, number) if number else None


def whom_by(kind: int, number: int) -> Owner | None:
    """Return whom F_SETOWN_EX means. EINVAL for a kind that is none, ESRCH for a number that nobody has."""
    if kind not in tuple(OwnerKind):
        raise fail(errno.EINVAL)
    if number < 0:
        raise fail(errno.ESRCH)
    return Owner(OwnerKind(kind), number) if number else None


def set_owner(task: Task, descriptor: int, owner: Owner | None) -> int:
    """Let one of the guest get the signals of an open file, or nobody. ESRCH for one who is not there."""
    if owner is None:
        return host.call(_FCNTL, descriptor, _SETOWN, 0)
    if owner.number == INIT:
        raise fail(errno.EPERM)
    if not is_there(task.kernel, owner):
        raise fail(errno.ESRCH)
    try:
        thread = task.kernel.outside.stand_in(owner, partial(is_there, task.kernel))
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
    known = host.HostBuffer(_OWNER.size, _OWNER.pack(OwnerKind.THREAD, thread))
    return host.call(_FCNTL, descriptor, _SETOWN_EX, known.address)


def get_owner(task: Task, descriptor: int) -> tuple[int, int]:
    """Return the kind and the number of an open file's owner, 0 for nobody; raise what fcntl answers.

    Quire itself is the guest's first process; any other of the host's is shown as it is.
    """
    buffer = host.HostBuffer(_OWNER.size)
    result = host.call(_FCNTL, descriptor, _GETOWN_EX, buffer.address)
    if result < 0:
        raise fail(-result)
    kind, number = _OWNER.unpack(buffer.take())
    owner = task.kernel.outside.owner_of(number) if kind == OwnerKind.THREAD else None
    if owner is not None:
        return owner.kind, owner.number if is_there(task.kernel, owner) else 0
    if number == os.getpid():
        return kind, task.kernel.first.pid
    return kind, number


def signed(kind: int, number: int) -> int:
    """Return an owner as F_GETOWN does: a group is negative."""
    return -number if kind == OwnerKind.GROUP else number


def set_owner_of_socket(task: Task, descriptor: int, pointer: int) -> int:
    """Do FIOSETOWN: ENOTTY for what is no socket."""
    _check_socket(descriptor)
    return set_owner(task, descriptor, whom(signed32(int.from_bytes(task.memory.read(pointer, 4), "little"))))


def get_owner_of_socket(task: Task, descriptor: int, pointer: int) -> int:
    """Do FIOGETOWN: ENOTTY for what is no socket."""
    _check_socket(descriptor)
    task.memory.write(pointer, struct.pack("<i", signed(*get_owner(task, descriptor))))
    return 0


def _check_socket(descriptor: int) -> None:
    try:
        status = os.fstat(descriptor)
    except OSError as error:
        raise fail(error.errno or errno.EBADF) from None
    if not stat.S_ISSOCK(status.st_mode):
        raise fail(errno.ENOTTY)
