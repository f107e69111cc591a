"""Who and where a process is: its numbers, the machine, the processor it runs on."""

import errno
import struct

from quire.arch import LOW32
from quire.guest.kernel.group import Process
from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, Out, fail
from quire.guest.syscalls.proc_machine import busy_share
from quire.guest.syscalls.table import passes, syscall

_SYSINFO = struct.Struct("<q3Q6QHH4xQQI4x")  # with what aligns it
_LOAD_ONE = 1 << 16  # SI_LOAD_SHIFT

passes(63, "uname", Out(390), effect=Effect.GUEST)


@syscall(99, "sysinfo", POINTER, effect=Effect.GUEST)
def sysinfo(task: Task, pointer: int) -> int:
    """Tell uptime, load, memory and the number of threads of the guest's machine."""
    total, free = task.machine.memory_sizes()
    load = int(busy_share(task) * _LOAD_ONE)
    threads = sum(1 for process in task.kernel.live() for _ in process.live())
    up = task.kernel.clock.now() // 1_000_000_000
    task.memory.write(
        pointer, _SYSINFO.pack(up, *3 * [load], total, free, *4 * [0], threads & 0xFFFF, 0, 0, 0, 1)
    )
    return 0


@syscall(24, "sched_yield", effect=Effect.PLAYED)
def sched_yield(task: Task) -> int:
    """Let the others run that can, before this one does again."""
    task.yields()
    return 0


@syscall(39, "getpid", effect=Effect.PLAYED)
def getpid(task: Task) -> int:
    """Return the number of the process."""
    return task.process.pid


@syscall(186, "gettid", effect=Effect.PLAYED)
def gettid(task: Task) -> int:
    """Return the number of the thread."""
    return task.tid


@syscall(110, "getppid", effect=Effect.PLAYED)
def getppid(task: Task) -> int:
    """Return the number of the process's parent: 1 is Quire."""
    return task.process.parent_pid


def _process(task: Task, number: int) -> Process:
    """Return a process by its number, 0 for the caller's own. ESRCH."""
    found = task.process if not number else task.kernel.processes.get(number)
    if found is None:
        raise fail(errno.ESRCH)
    return found


@syscall(111, "getpgrp", effect=Effect.PLAYED)
def getpgrp(task: Task) -> int:
    """Return the number of the process group."""
    return task.process.group


@syscall(121, "getpgid", S32, effect=Effect.PLAYED)
def getpgid(task: Task, number: int) -> int:
    """Return the number of a process's group."""
    return _process(task, number).group


@syscall(124, "getsid", S32, effect=Effect.PLAYED)
def getsid(task: Task, number: int) -> int:
    """Return the number of a process's session."""
    return _process(task, number).session


@syscall(109, "setpgid", S32, S32, effect=Effect.PLAYED)
def setpgid(task: Task, number: int, group: int) -> int:
    """Put the process, or a child that has not executed a program, into a group of its session, or a new one."""
    own = task.process
    if group < 0:
        return -errno.EINVAL
    target = _process(task, number)
    if target is not own and target.parent is not own:
        return -errno.ESRCH
    if target is not own and target.executed:
        return -errno.EACCES
    group = group or target.pid
    if target.session == target.pid or target.session != own.session:
        return -errno.EPERM
    if group != target.pid and all(one.session != own.session for one in task.kernel.group(group)):
        return -errno.EPERM
    target.group = group
    return 0


@syscall(112, "setsid", effect=Effect.PLAYED)
def setsid(task: Task) -> int:
    """Begin a session of its own, with a group of its own and without a terminal."""
    own = task.process
    if task.kernel.group(own.pid):
        return -errno.EPERM
    own.session = own.group = own.pid
    own.terminal = None
    return own.pid


@syscall(135, "personality", U32, effect=Effect.PLAYED)
def personality(task: Task, persona: int) -> int:
    """Answer the plain Linux personality, and accept that one only; asking is 0xffffffff."""
    return 0 if persona in (0, LOW32) else -errno.EINVAL


@syscall(309, "getcpu", POINTER, POINTER, INT, effect=Effect.PLAYED)
def getcpu(task: Task, cpu: int, node: int, _cache: int) -> int:
    """Answer the vCPU that the thread runs on, and its node."""
    for pointer, number in ((cpu, task.kernel.scheduler.lane.number), (node, task.machine.node)):
        if pointer:
            task.memory.write_u32(pointer, number)
    return 0


@syscall(103, "syslog", S32, POINTER, S32, effect=Effect.PLAYED)
def syslog(task: Task, *_arguments: int) -> int:
    """Refuse: the kernel's log is not the guest's."""
    return -errno.EPERM
