"""Resource limits. They are the guest's alone: Quire's own process keeps the host's."""

import errno
import os
import resource
import struct

from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import POINTER, S32, U32
from quire.guest.syscalls.state import QUIRE_DESCRIPTORS, RLIMITS, group_state
from quire.guest.syscalls.table import syscall

_LIMIT = struct.Struct("<QQ")
_PRLIMIT64 = 302


def _set(group: ThreadGroup, number: int, pointer: int) -> int:
    soft, hard = _LIMIT.unpack(group.memory.read(pointer, _LIMIT.size))
    limits = group_state(group).limits
    if soft > hard:
        return -errno.EINVAL
    # Even a privileged guest gets no descriptors among Quire's.
    privileged = os.geteuid() == 0 and (number != resource.RLIMIT_NOFILE or hard <= QUIRE_DESCRIPTORS)
    if hard > limits[number][1] and not privileged:
        return -errno.EPERM
    limits[number] = (soft, hard)
    if number == resource.RLIMIT_STACK:
        group.space.stack_limit = soft
    return 0


def _get(group: ThreadGroup, number: int, pointer: int) -> int:
    group.memory.write(pointer, _LIMIT.pack(*group_state(group).limits[number]))
    return 0


@syscall(97, "getrlimit", U32, POINTER)
def getrlimit(group: ThreadGroup, number: int, pointer: int) -> int:
    """Return a limit."""
    return _get(group, number, pointer) if number < RLIMITS else -errno.EINVAL


@syscall(160, "setrlimit", U32, POINTER)
def setrlimit(group: ThreadGroup, number: int, pointer: int) -> int:
    """Set a limit. EINVAL when soft exceeds hard, EPERM when hard would rise without privilege."""
    return _set(group, number, pointer) if number < RLIMITS else -errno.EINVAL


@syscall(_PRLIMIT64, "prlimit64", S32, U32, POINTER, POINTER)
def prlimit64(group: ThreadGroup, target: int, number: int, new: int, old: int) -> int:
    """Get and set a limit. Another process's limits may be read, not set (EPERM)."""
    if number >= RLIMITS:
        return -errno.EINVAL
    if target not in (0, os.getpid()):
        if new:
            return -errno.EPERM
        buffer = host.HostBuffer(_LIMIT.size)
        result = host.call(_PRLIMIT64, target, number, 0, buffer.address)
        if result == 0 and old:
            group.memory.write(old, buffer.take())
        return result
    previous = group_state(group).limits[number]
    result = _set(group, number, new) if new else 0
    if result == 0 and old:
        group.memory.write(old, _LIMIT.pack(*previous))
    return result
