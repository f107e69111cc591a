"""What the guest used: getrusage, times, and the clocks of processor time."""

import os
import struct
import time

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import POINTER, S32, fail
from quire.guest.syscalls.table import syscall

__all__ = ["guest_time"]

_GETRUSAGE = 98
_RUSAGE = struct.Struct("<16q")
_TMS = struct.Struct("<4q")
_TICK = os.sysconf("SC_CLK_TCK")
_SELF, _CHILDREN, _THREAD = 0, -1, 1
_MICRO = 1_000_000
#: Words of struct rusage: two times of two words each, then these.
_MAXRSS, _MINFLT, _MAJFLT = 4, 8, 9


def guest_time(task: Task) -> int:
    """Return the processor time that the guest took, in ns."""
    return int(sum(task.usage.seconds()) * 1e9)


@syscall(_GETRUSAGE, "getrusage", S32, POINTER, effect=Effect.GUEST)
def getrusage(task: Task, who: int, answer: int) -> int:
    """Return what the guest used; its children, of which there are none, used nothing."""
    words = [0] * 16
    if who in (_SELF, _THREAD):
        found = host.HostBuffer(_RUSAGE.size)
        host.call(
            _GETRUSAGE, _THREAD, found.address
        )  # of Quire's thread that is the guest's: its waits and its I/O
        words = list(_RUSAGE.unpack(found.take()))
        for at, seconds in enumerate(task.usage.seconds()):
            words[2 * at : 2 * at + 2] = divmod(int(seconds * _MICRO), _MICRO)
        words[_MAXRSS] = task.usage.peak // 1024
        words[_MINFLT], words[_MAJFLT] = task.usage.faults, 0
    elif who != _CHILDREN:
        raise fail(22)
    task.memory.write(answer, _RUSAGE.pack(*words))
    return 0


@syscall(100, "times", POINTER, effect=Effect.GUEST)
def times(task: Task, answer: int) -> int:
    """Return the ticks since some moment, and those that the guest took."""
    if answer:
        user, system = (int(seconds * _TICK) for seconds in task.usage.seconds())
        task.memory.write(answer, _TMS.pack(user, system, 0, 0))
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICK)
