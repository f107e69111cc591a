"""Priorities, policies and processors: records of the guest, of which Quire's own process sees nothing."""

import errno
import os
import resource

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, Out
from quire.guest.syscalls.state import group_state, thread_state
from quire.guest.syscalls.table import passes, syscall

_ONE_CPU = 1  # the mask of processor 0
_MASK_BYTES = 8
_GETPRIORITY, _SETPRIORITY = 140, 141
_PROCESS, _GROUP, _USER = 0, 1, 2
_NICEST, _LEAST_NICE = 19, -20

passes(145, "sched_getscheduler", INT, effect=Effect.GUEST)
passes(146, "sched_get_priority_max", INT, effect=Effect.GUEST)
passes(147, "sched_get_priority_min", INT, effect=Effect.GUEST)
passes(143, "sched_getparam", INT, Out(4), effect=Effect.GUEST)
passes(148, "sched_rr_get_interval", INT, Out(16), effect=Effect.GUEST)


def _is_own(target: int) -> bool:
    return target in (0, os.getpid())


@syscall(204, "sched_getaffinity", S32, U32, POINTER, effect=Effect.GUEST)
def sched_getaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Answer one processor: the guest has one vCPU."""
    if size < _MASK_BYTES or size % 8:
        return -errno.EINVAL
    if not _is_own(target):
        return -errno.ESRCH
    task.memory.write_u64(pointer, _ONE_CPU)
    return _MASK_BYTES


@syscall(203, "sched_setaffinity", S32, U32, POINTER, effect=Effect.GUEST)
def sched_setaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Accept a mask that has processor 0, else EINVAL."""
    if not _is_own(target):
        return -errno.ESRCH
    mask = task.memory.read(pointer, min(size, 128))
    return 0 if mask and mask[0] & _ONE_CPU else -errno.EINVAL


@syscall(144, "sched_setscheduler", S32, S32, POINTER, effect=Effect.GUEST)
def sched_setscheduler(task: Task, target: int, policy: int, pointer: int) -> int:
    """Accept the normal policies; there is nothing to schedule. A real-time one is EPERM."""
    priority = task.memory.read_i32(pointer)
    if not _is_own(target):
        return -errno.ESRCH
    if policy not in (0, 3, 5):
        return -errno.EPERM
    return 0 if priority == 0 else -errno.EINVAL


@syscall(_GETPRIORITY, "getpriority", S32, S32, effect=Effect.GUEST)
def getpriority(task: Task, which: int, who: int) -> int:
    """Return 20 minus the niceness: of the guest as recorded, of others as the host has it."""
    if which == _PROCESS and _is_own(who):
        return 20 - thread_state(task).nice
    return host.call(_GETPRIORITY, which, who)


@syscall(_SETPRIORITY, "setpriority", S32, S32, S32, effect=Effect.CHOOSES)
def setpriority(task: Task, which: int, who: int, niceness: int) -> int:
    """Set the guest's niceness, which is a record; of another process outside a sandbox.

    EPERM for a whole group or user, since Quire belongs to it.
    """
    if not _PROCESS <= which <= _USER:
        return -errno.EINVAL
    niceness = min(max(niceness, _LEAST_NICE), _NICEST)
    if which == _PROCESS and _is_own(who):
        state = thread_state(task)
        least = 20 - min(group_state(task).limits[resource.RLIMIT_NICE][0], 40)
        if niceness < state.nice and niceness < least and not capable(task):
            return -errno.EACCES
        state.nice = niceness
        return 0
    if which != _PROCESS or task.options.sandbox:
        return -errno.EPERM
    return host.call(_SETPRIORITY, which, who, niceness)
