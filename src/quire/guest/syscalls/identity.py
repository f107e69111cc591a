"""Who and where a process is: its numbers, the machine, the processor it runs on."""

import errno
import os

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, Out
from quire.guest.syscalls.table import passes, syscall

passes(39, "getpid", effect=Effect.GUEST)
passes(110, "getppid", effect=Effect.GUEST)
passes(111, "getpgrp", effect=Effect.GUEST)
passes(121, "getpgid", INT, effect=Effect.GUEST)
passes(124, "getsid", INT, effect=Effect.GUEST)
passes(109, "setpgid", INT, INT, effect=Effect.OTHERS)
passes(112, "setsid", effect=Effect.OTHERS)
passes(63, "uname", Out(390), effect=Effect.GUEST)
passes(99, "sysinfo", Out(112), effect=Effect.GUEST)
passes(24, "sched_yield", effect=Effect.GUEST)


@syscall(186, "gettid", effect=Effect.GUEST)
def gettid(task: Task) -> int:
    """Return the process id: the one thread's, whichever of Quire's threads runs it."""
    return os.getpid()


@syscall(135, "personality", U32, effect=Effect.GUEST)
def personality(task: Task, persona: int) -> int:
    """Answer the plain Linux personality, and accept that one only; asking is 0xffffffff."""
    return 0 if persona in (0, LOW32) else -errno.EINVAL


@syscall(309, "getcpu", POINTER, POINTER, INT, effect=Effect.GUEST)
def getcpu(task: Task, cpu: int, node: int, _cache: int) -> int:
    """Answer processor 0 of node 0."""
    for pointer in (cpu, node):
        if pointer:
            task.memory.write_u32(pointer, 0)
    return 0


@syscall(103, "syslog", S32, POINTER, S32, effect=Effect.GUEST)
def syslog(task: Task, *_arguments: int) -> int:
    """Refuse: the kernel's log is not the guest's."""
    return -errno.EPERM
