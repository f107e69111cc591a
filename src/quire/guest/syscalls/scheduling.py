"""Priorities, policies and processors: records of the guest, of which Quire's own process sees nothing."""

import errno
import resource
import struct

from quire.guest.kernel.group import ProcessThread
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, Out, fail
from quire.guest.syscalls.state import group_state, thread_state
from quire.guest.syscalls.table import passes, syscall

#: Of a mask of vCPUs: what the kernel writes, and the most that it reads.
_MASK_BYTES, _MOST_BYTES = 8, 128
_GETPRIORITY, _SETPRIORITY = 140, 141
_PROCESS, _GROUP, _USER = 0, 1, 2
_NICEST, _LEAST_NICE = 19, -20
#: SCHED_OTHER, BATCH, IDLE; FIFO, RR.
_NORMAL, _REAL_TIME = (0, 3, 5), (1, 2)
#: struct sched_attr: size, policy, flags, niceness, priority, three of deadlines; Linux's own has two words more.
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
_KERNELS_ATTRIBUTES = 56

passes(146, "sched_get_priority_max", INT, effect=Effect.GUEST)
passes(147, "sched_get_priority_min", INT, effect=Effect.GUEST)
passes(148, "sched_rr_get_interval", INT, Out(16), effect=Effect.GUEST)


def _is_own(task: Task, target: int) -> bool:
    """Whether a number is that of a thread of the guest, or 0."""
    return not target or task.kernel.task(target) is not None


def _thread(task: Task, target: int) -> ProcessThread:
    """Return the thread with a number, this one for 0. ESRCH for a number that is nobody's."""
    found = task.kernel.task(target or task.tid)
    if found is None:
        raise fail(errno.ESRCH)
    return found


@syscall(204, "sched_getaffinity", S32, U32, POINTER, effect=Effect.PLAYED)
def sched_getaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Answer the vCPUs that may run a thread, as a mask."""
    if size < _MASK_BYTES or size % 8:
        return -errno.EINVAL
    mask = thread_state(_thread(task, target)).affinity & _all_vcpus(task)
    task.memory.write_u64(pointer, mask)
    return _MASK_BYTES


@syscall(203, "sched_setaffinity", S32, U32, POINTER, effect=Effect.PLAYED)
def sched_setaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Say which vCPUs may run a thread, by a mask; EINVAL if none of them is there. It moves at once."""
    thread = _thread(task, target)
    mask = int.from_bytes(task.memory.read(pointer, min(size, _MOST_BYTES)), "little") & _all_vcpus(task)
    if not mask:
        return -errno.EINVAL
    thread_state(thread).affinity = mask
    if thread.moves() and thread.tid == task.tid:
        task.runs = False
    return 0


def _all_vcpus(task: Task) -> int:
    return (1 << task.machine.vcpu_count) - 1


def _check_target(target: int, pointer: int) -> None:
    if target < 0 or not pointer:
        raise fail(errno.EINVAL)


def _check_known(task: Task, target: int) -> None:
    if not _is_own(task, target):
        raise fail(errno.ESRCH)


def _take_policy(task: Task, policy: int, priority: int) -> int:
    """Remember a normal policy; there is nothing to schedule. A real-time one is EPERM."""
    if policy not in (*_NORMAL, *_REAL_TIME) or (priority != 0) != (policy in _REAL_TIME):
        return -errno.EINVAL
    if policy in _REAL_TIME:
        return -errno.EINVAL if not 0 < priority < 100 else -errno.EPERM
    thread_state(task).scheduling = policy
    return 0


@syscall(144, "sched_setscheduler", S32, S32, POINTER, effect=Effect.PLAYED)
def sched_setscheduler(task: Task, target: int, policy: int, pointer: int) -> int:
    """Remember the thread's policy."""
    if policy < 0:
        return -errno.EINVAL
    _check_target(target, pointer)
    priority = task.memory.read_i32(pointer)
    _check_known(task, target)
    return _take_policy(task, policy, priority)


@syscall(142, "sched_setparam", S32, POINTER, effect=Effect.PLAYED)
def sched_setparam(task: Task, target: int, pointer: int) -> int:
    """Accept priority 0, the one of normal policies."""
    _check_target(target, pointer)
    priority = task.memory.read_i32(pointer)
    _check_known(task, target)
    return -errno.EINVAL if priority else 0


@syscall(143, "sched_getparam", S32, POINTER, effect=Effect.GUEST)
def sched_getparam(task: Task, target: int, pointer: int) -> int:
    """Return the priority, 0 as of all normal policies; of others the host's."""
    _check_target(target, pointer)
    if _is_own(task, target):
        task.memory.write_u32(pointer, 0)
        return 0
    answer = host.HostBuffer(4)
    result = host.call(143, target, answer.address)
    if result == 0:
        task.memory.write(pointer, answer.take())
    return result


@syscall(145, "sched_getscheduler", S32, effect=Effect.GUEST)
def sched_getscheduler(task: Task, target: int) -> int:
    """Return the thread's policy; of others the host's."""
    return thread_state(task).scheduling if _is_own(task, target) else host.call(145, target)


@syscall(315, "sched_getattr", S32, POINTER, U32, U32, effect=Effect.PLAYED)
def sched_getattr(task: Task, target: int, pointer: int, size: int, flags: int) -> int:
    """Return policy and niceness of the thread as a structure."""
    _check_target(target, pointer)
    if not _ATTRIBUTES.size <= size <= PAGE_4K or flags:
        return -errno.EINVAL
    _check_known(task, target)
    state = thread_state(task)
    packed = _ATTRIBUTES.pack(_ATTRIBUTES.size, state.scheduling, 0, state.nice, 0, 0, 0, 0)
    task.memory.write(pointer, packed)
    return 0


@syscall(314, "sched_setattr", S32, POINTER, U32, effect=Effect.PLAYED)
def sched_setattr(task: Task, target: int, pointer: int, flags: int) -> int:
    """Set policy and niceness of the thread by a structure, whose first word is its size."""
    _check_target(target, pointer)
    if flags:
        return -errno.EINVAL
    size = task.memory.read_u32(pointer) or _ATTRIBUTES.size
    if not _ATTRIBUTES.size <= size <= PAGE_4K:
        task.memory.write_u32(pointer, _KERNELS_ATTRIBUTES)
        return -errno.E2BIG
    data = task.memory.read(pointer, size)
    if any(data[_KERNELS_ATTRIBUTES:]):
        task.memory.write_u32(pointer, _KERNELS_ATTRIBUTES)
        return -errno.E2BIG
    _, policy, _, nice, priority, _, _, _ = _ATTRIBUTES.unpack_from(data)
    if policy >> 31:
        return -errno.EINVAL
    _check_known(task, target)
    result = _take_policy(task, policy, priority)
    return result or _renice(task, min(max(nice, _LEAST_NICE), _NICEST), -errno.EPERM)


@syscall(251, "ioprio_set", S32, S32, S32, effect=Effect.PLAYED)
def ioprio_set(task: Task, which: int, who: int, priority: int) -> int:
    """Remember the priority of the thread's input and output."""
    kind, data = priority >> 13, priority & 0x1FFF
    if not 0 <= kind <= 3 or (kind == 0 and data) or which not in (1, 2, 3):
        return -errno.EINVAL
    if kind == 1 and not capable(task):
        return -errno.EPERM
    if which != 1 or not _is_own(task, who):
        return -errno.ESRCH if which == 1 else -errno.EPERM
    thread_state(task).io_priority = priority
    return 0


@syscall(252, "ioprio_get", S32, S32, effect=Effect.GUEST)
def ioprio_get(task: Task, which: int, who: int) -> int:
    """Return the priority of the thread's input and output; of others the host's."""
    if which == 1 and _is_own(task, who):
        return thread_state(task).io_priority or host.call(252, which, who)
    return host.call(252, which, who)


@syscall(_GETPRIORITY, "getpriority", S32, S32, effect=Effect.GUEST)
def getpriority(task: Task, which: int, who: int) -> int:
    """Return 20 minus the niceness: of the guest as recorded, of others as the host has it."""
    if which == _PROCESS and _is_own(task, who):
        return 20 - thread_state(task).nice
    return host.call(_GETPRIORITY, which, who)


def _renice(task: Task, niceness: int, refusal: int) -> int:
    state = thread_state(task)
    least = 20 - min(group_state(task).limits[resource.RLIMIT_NICE][0], 40)
    if niceness < state.nice and niceness < least and not capable(task):
        return refusal
    state.nice = niceness
    return 0


@syscall(_SETPRIORITY, "setpriority", S32, S32, S32, effect=Effect.CHOOSES)
def setpriority(task: Task, which: int, who: int, niceness: int) -> int:
    """Set the guest's niceness, which is a record; of another process outside a sandbox.

    EPERM for a whole group or user, since Quire belongs to it.
    """
    if not _PROCESS <= which <= _USER:
        return -errno.EINVAL
    niceness = min(max(niceness, _LEAST_NICE), _NICEST)
    if which == _PROCESS and _is_own(task, who):
        return _renice(task, niceness, -errno.EACCES)
    if which != _PROCESS or task.options.sandbox:
        return -errno.EPERM
    return host.call(_SETPRIORITY, which, who, niceness)
