"""What the guest used: getrusage, times, and the clocks of processor time."""

import os
import struct

from quire.guest.kernel.task import Task
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
_MAXRSS, _MINFLT = 4, 8


def guest_time(task: Task) -> int:
    """Return the processor time that the guest took, in ns."""
    return task.usage.time()


@syscall(_GETRUSAGE, "getrusage", S32, POINTER, effect=Effect.GUEST)
def getrusage(task: Task, who: int, answer: int) -> int:
    """Return what the guest used, or the children that it waited for."""
    words, own = [0] * 16, task.process
    if who in (_SELF, _THREAD):
        words[0:2] = divmod(task.usage.time() // 1000, _MICRO)
        words[_MAXRSS], words[_MINFLT] = task.usage.peak // 1024, task.usage.faults
    elif who == _CHILDREN:
        words[0:2] = divmod(own.children_time // 1000, _MICRO)
        words[_MAXRSS], words[_MINFLT] = own.children_peak // 1024, own.children_faults
    else:
        raise fail(22)
    task.memory.write(answer, _RUSAGE.pack(*words))
    return 0


@syscall(100, "times", POINTER, effect=Effect.GUEST)
def times(task: Task, answer: int) -> int:
    """Return the ticks since some moment, and those that the guest and its children took."""
    tick = 1_000_000_000 // _TICK
    if answer:
        task.memory.write(
            answer, _TMS.pack(task.usage.time() // tick, 0, task.process.children_time // tick, 0)
        )
    return task.kernel.clock.now() // tick
