"""Resource limits. They are the guest's alone: Quire's own process keeps the host's."""

import errno
import resource
import struct

from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.kinds import POINTER, S32, U32
from quire.guest.syscalls.state import RLIMITS, group_state, limit_of, limit_process
from quire.guest.syscalls.table import syscall
from quire.own_descriptors import FIRST_OWN

_LIMIT = struct.Struct("<QQ")
_PRLIMIT64 = 302


def _set(task: Task, number: int, pointer: int) -> int:
    soft, hard = _LIMIT.unpack(task.memory.read(pointer, _LIMIT.size))
    limits = group_state(task).limits
    if soft > hard:
        return -errno.EINVAL
    # Even a privileged guest gets no descriptors among Quire's.
    privileged = capable(task) and (number != resource.RLIMIT_NOFILE or hard <= FIRST_OWN)
    if hard > limits[number][1] and not privileged:
        return -errno.EPERM
    limits[number] = (soft, hard)
    limit_process(task.process, number, soft, hard)
    if number == resource.RLIMIT_CPU:
        task.kernel.timers_changed()
    return 0


def _get(group: ThreadGroup, number: int, pointer: int) -> int:
    group.memory.write(pointer, _LIMIT.pack(*limit_of(group, number)))
    return 0


@syscall(97, "getrlimit", U32, POINTER, effect=Effect.GUEST)
def getrlimit(group: ThreadGroup, number: int, pointer: int) -> int:
    """Return a limit."""
    return _get(group, number, pointer) if number < RLIMITS else -errno.EINVAL


@syscall(160, "setrlimit", U32, POINTER, effect=Effect.GUEST)
def setrlimit(task: Task, number: int, pointer: int) -> int:
    """Set a limit. EINVAL when soft exceeds hard, EPERM when hard would rise without privilege."""
    return _set(task, number, pointer) if number < RLIMITS else -errno.EINVAL


@syscall(_PRLIMIT64, "prlimit64", S32, U32, POINTER, POINTER, effect=Effect.GUEST)
def prlimit64(task: Task, target: int, number: int, new: int, old: int) -> int:
    """Get and set a limit. Another process's limits may be read, not set (EPERM)."""
    if new:
        task.memory.read(new, _LIMIT.size)  # Linux looks there first: EFAULT
    if number >= RLIMITS:
        return -errno.EINVAL
    if target not in (0, task.process.pid):
        if new:
            return -errno.EPERM
        buffer = host.HostBuffer(_LIMIT.size)
        result = host.call(_PRLIMIT64, target, number, 0, buffer.address)
        if result == 0 and old:
            task.memory.write(old, buffer.take())
        return result
    previous = limit_of(task, number)
    result = _set(task, number, new) if new else 0
    if result == 0 and old:
        task.memory.write(old, _LIMIT.pack(*previous))
    return result
