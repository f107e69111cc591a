"""fcntl: its commands, each with what it takes and what it may change outside the guest.

A command that is not in the table is EINVAL, as a kernel answers that does not know it.
"""

import errno
import signal
import struct
from dataclasses import dataclass
from enum import Enum

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.mm.file_pages import writes_to
from quire.guest.syscalls import host
from quire.guest.syscalls.channels import reserve_pipe
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, OPEN_FD, S32, signed32
from quire.guest.syscalls.owners import get_owner, set_owner, signed, whom, whom_by
from quire.guest.syscalls.pidfds import process_of
from quire.guest.syscalls.sandbox import verdict
from quire.guest.syscalls.state import admit, group_state
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.waiting import wait_for_lock

__all__ = ["FCNTLS", "Fcntl"]

_FCNTL = 72
_GETFD = 1
_GETFL, _GETOWN = 3, 9
_LARGE_FILE = 0o100000
#: Commands that wait for a lock, and those that do not.
_PATIENT = {7: 6, 38: 37}
_O_ASYNC = 0o20000
_PIPE_MAX = 1 << 31
_SEAL_WRITE = 8
_OWNER_EX = struct.Struct("<Ii")  # struct f_owner_ex: what kind of number, and the number


class Takes(Enum):
    """What the third argument of a command is."""

    NUMBER = "a number or nothing"
    COPY = "the least number of a new descriptor"
    FLAGS = "flags of the open file"
    LOCK = "a lock, of which nothing is handed back"
    OWNER = "who gets signals of the open file"
    OWNER_EX = "the same as a structure"
    OWNED_EX = "the same, handed back"
    SIGNAL = "which signal that is"
    PIPE_SIZE = "how many bytes a pipe holds"
    SEALS = "what is no longer allowed of a memory file"
    IN_OUT = "a structure"


@dataclass(frozen=True, slots=True)
class Fcntl:
    """A command: its name, what it takes, how many bytes that are, what it may change."""

    name: str
    takes: Takes
    effect: Effect
    size: int = 0


_LOCK_BYTES = 32
_GUEST, _OTHERS = Effect.GUEST, Effect.OTHERS

#: The commands by their numbers.
FCNTLS: dict[int, Fcntl] = {
    0: Fcntl("F_DUPFD", Takes.COPY, _GUEST),
    1: Fcntl("F_GETFD", Takes.NUMBER, _GUEST),
    2: Fcntl("F_SETFD", Takes.NUMBER, _GUEST),
    3: Fcntl("F_GETFL", Takes.NUMBER, _GUEST),
    4: Fcntl("F_SETFL", Takes.FLAGS, Effect.DESCRIPTION),
    5: Fcntl("F_GETLK", Takes.IN_OUT, _GUEST, _LOCK_BYTES),
    6: Fcntl("F_SETLK", Takes.LOCK, Effect.LOCKS, _LOCK_BYTES),
    7: Fcntl("F_SETLKW", Takes.LOCK, Effect.LOCKS, _LOCK_BYTES),
    8: Fcntl("F_SETOWN", Takes.OWNER, _OTHERS),
    9: Fcntl("F_GETOWN", Takes.NUMBER, _GUEST),
    10: Fcntl("F_SETSIG", Takes.SIGNAL, _OTHERS),
    11: Fcntl("F_GETSIG", Takes.NUMBER, _GUEST),
    15: Fcntl("F_SETOWN_EX", Takes.OWNER_EX, _OTHERS, _OWNER_EX.size),
    16: Fcntl("F_GETOWN_EX", Takes.OWNED_EX, _GUEST, _OWNER_EX.size),
    36: Fcntl("F_OFD_GETLK", Takes.IN_OUT, _GUEST, _LOCK_BYTES),
    37: Fcntl("F_OFD_SETLK", Takes.LOCK, Effect.LOCKS, _LOCK_BYTES),
    38: Fcntl("F_OFD_SETLKW", Takes.LOCK, Effect.LOCKS, _LOCK_BYTES),
    1025: Fcntl("F_GETLEASE", Takes.NUMBER, _GUEST),
    1030: Fcntl("F_DUPFD_CLOEXEC", Takes.COPY, _GUEST),
    1031: Fcntl("F_SETPIPE_SZ", Takes.PIPE_SIZE, Effect.CHANNEL),
    1032: Fcntl("F_GETPIPE_SZ", Takes.NUMBER, _GUEST),
    1033: Fcntl("F_ADD_SEALS", Takes.SEALS, Effect.CHANNEL),
    1034: Fcntl("F_GET_SEALS", Takes.NUMBER, _GUEST),
    1035: Fcntl("F_GET_RW_HINT", Takes.IN_OUT, _GUEST, 8),
    1036: Fcntl("F_SET_RW_HINT", Takes.IN_OUT, Effect.CHANNEL, 8),
    1037: Fcntl("F_GET_FILE_RW_HINT", Takes.IN_OUT, _GUEST, 8),
    1038: Fcntl("F_SET_FILE_RW_HINT", Takes.IN_OUT, Effect.CHANNEL, 8),
}


def _is_open(descriptor: int) -> int:
    """Return -EBADF for a descriptor that is not: Linux looks at it first."""
    return min(host.call(_FCNTL, descriptor, _GETFD), 0)


def _structure(task: Task, descriptor: int, command: int, pointer: int, entry: Fcntl) -> int:
    if entry.takes is Takes.OWNED_EX:
        task.memory.write(pointer, _OWNER_EX.pack(*get_owner(task, descriptor)))
        return 0
    data = task.memory.read(pointer, entry.size)
    if entry.takes is Takes.OWNER_EX:
        return set_owner(task, descriptor, whom_by(*_OWNER_EX.unpack(data)))
    buffer = host.HostBuffer(entry.size, data)
    result = host.call(_FCNTL, descriptor, _PATIENT.get(command, command), buffer.address)
    if command in _PATIENT and result in (-errno.EAGAIN, -errno.EACCES):
        wait_for_lock(task)
    if result >= 0 and entry.takes is Takes.IN_OUT:
        task.memory.write(pointer, buffer.take())
    return result


def _number(task: Task, descriptor: int, command: int, argument: int, entry: Fcntl) -> int:
    if entry.takes is Takes.OWNER:
        OPEN_FD.value(task, descriptor)
        return set_owner(task, descriptor, whom(signed32(argument)))
    if command == _GETOWN:
        return signed(*get_owner(task, descriptor))
    if entry.takes is Takes.SIGNAL and argument in (signal.SIGKILL, signal.SIGSTOP):
        return -errno.EINVAL  # it would be Quire that they end or stop
    if entry.takes is Takes.FLAGS and task.options.sandbox and argument & _O_ASYNC:
        return -errno.EPERM
    if entry.takes is Takes.PIPE_SIZE and host.identity_of(descriptor) and host.is_pipe(descriptor):
        if argument & LOW32 > _PIPE_MAX:
            return -errno.EINVAL
        reserve_pipe(task, descriptor, argument & LOW32)
    if entry.takes is Takes.SEALS and argument & _SEAL_WRITE and writes_to(task.space.areas, descriptor):
        return -errno.EBUSY
    result = host.call(_FCNTL, descriptor, command, argument)
    if command == _GETFL and result & _LARGE_FILE and process_of(task, descriptor) is not None:
        result &= ~_LARGE_FILE  # a descriptor of a process is no file
    return result


@syscall(_FCNTL, "fcntl", FD, S32, INT, effect=Effect.CHOOSES, restart=True)
def fcntl(task: Task, descriptor: int, command: int, argument: int) -> int:
    """Control a descriptor: flags, copies, locks, owner, size of a pipe. EINVAL for what Quire does not know."""
    entry = FCNTLS.get(command)
    if entry is None or entry.size:
        OPEN_FD.value(task, descriptor)
    if entry is None:
        return -errno.EINVAL
    if task.options.sandbox:
        answer = verdict(task, entry.effect, (descriptor & LOW32,))
        if answer is not None:
            return _is_open(descriptor) or answer
    if entry.takes is Takes.COPY:
        if not 0 <= argument & LOW32 < group_state(task).descriptor_limit:
            return _is_open(descriptor) or -errno.EINVAL
        result = host.call(_FCNTL, descriptor, command, argument)
        return admit(task, result) if result >= 0 else result
    if entry.size:
        return _structure(task, descriptor, command, argument, entry)
    return _number(task, descriptor, command, argument, entry)
