"""Who and where a process is: ids, names, the machine, its processors and its accounting."""

import errno
import os

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, Arg, In, InOut, Out
from quire.guest.syscalls.table import Effect, passes, syscall

_GROUPS_MAX = 65536
_ONE_CPU = 1  # the mask of processor 0
_MASK_BYTES = 8

passes(39, "getpid")
passes(110, "getppid")
passes(111, "getpgrp")
passes(121, "getpgid", INT)
passes(124, "getsid", INT)
passes(109, "setpgid", INT, INT, effect=Effect.OTHERS)
passes(112, "setsid", effect=Effect.OTHERS)
passes(102, "getuid")
passes(104, "getgid")
passes(107, "geteuid")
passes(108, "getegid")
passes(118, "getresuid", Out(4), Out(4), Out(4))
passes(120, "getresgid", Out(4), Out(4), Out(4))
passes(115, "getgroups", INT, Out(Arg(0, scale=4, bits=32), by_result=True, unit=4, limit=4 * _GROUPS_MAX))
passes(105, "setuid", INT)
passes(106, "setgid", INT)
passes(113, "setreuid", INT, INT)
passes(114, "setregid", INT, INT)
passes(117, "setresuid", INT, INT, INT)
passes(119, "setresgid", INT, INT, INT)
passes(122, "setfsuid", INT)
passes(123, "setfsgid", INT)
passes(116, "setgroups", INT, In(Arg(0, scale=4, bits=32), limit=4 * _GROUPS_MAX))
passes(63, "uname", Out(390))
passes(99, "sysinfo", Out(112))
passes(98, "getrusage", INT, Out(144))
passes(100, "times", Out(32, nullable=True))
passes(140, "getpriority", INT, INT)
passes(141, "setpriority", INT, INT, INT, effect=Effect.OTHERS)
passes(252, "ioprio_get", INT, INT)
passes(24, "sched_yield")
passes(125, "capget", InOut(8), Out(24, nullable=True))
passes(145, "sched_getscheduler", INT)
passes(146, "sched_get_priority_max", INT)
passes(147, "sched_get_priority_min", INT)
passes(143, "sched_getparam", INT, Out(4))
passes(148, "sched_rr_get_interval", INT, Out(16))


@syscall(186, "gettid")
def gettid(task: Task) -> int:
    """Return the process id: the one thread's, whichever of Quire's threads runs it."""
    return os.getpid()


@syscall(135, "personality", U32)
def personality(task: Task, persona: int) -> int:
    """Answer the plain Linux personality, and accept that one only; asking is 0xffffffff."""
    return 0 if persona in (0, LOW32) else -errno.EINVAL


def _is_own(target: int) -> bool:
    return target in (0, os.getpid())


@syscall(204, "sched_getaffinity", S32, U32, POINTER)
def sched_getaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Answer one processor: the guest has one vCPU."""
    if size < _MASK_BYTES or size % 8:
        return -errno.EINVAL
    if not _is_own(target):
        return -errno.ESRCH
    task.memory.write_u64(pointer, _ONE_CPU)
    return _MASK_BYTES


@syscall(203, "sched_setaffinity", S32, U32, POINTER)
def sched_setaffinity(task: Task, target: int, size: int, pointer: int) -> int:
    """Accept a mask that has processor 0, else EINVAL."""
    if not _is_own(target):
        return -errno.ESRCH
    mask = task.memory.read(pointer, min(size, 128))
    return 0 if mask and mask[0] & _ONE_CPU else -errno.EINVAL


@syscall(144, "sched_setscheduler", S32, S32, POINTER)
def sched_setscheduler(task: Task, target: int, policy: int, pointer: int) -> int:
    """Accept the normal policies; there is nothing to schedule. A real-time one is EPERM."""
    priority = task.memory.read_i32(pointer)
    if not _is_own(target):
        return -errno.ESRCH
    if policy not in (0, 3, 5):
        return -errno.EPERM
    return 0 if priority == 0 else -errno.EINVAL


@syscall(309, "getcpu", POINTER, POINTER, INT)
def getcpu(task: Task, cpu: int, node: int, _cache: int) -> int:
    """Answer processor 0 of node 0."""
    for pointer in (cpu, node):
        if pointer:
            task.memory.write_u32(pointer, 0)
    return 0


@syscall(103, "syslog", S32, POINTER, S32)
def syslog(task: Task, *_arguments: int) -> int:
    """Refuse: the kernel's log is not the guest's."""
    return -errno.EPERM


@syscall(126, "capset", POINTER, POINTER)
def capset(task: Task, header: int, data: int) -> int:
    """Check both pointers and refuse: capabilities are Quire's own."""
    task.memory.read(header, 8)
    task.memory.read(data, 24)
    return -errno.EPERM
