"""What the guest used: getrusage, times, and the clocks of processor time."""

import os
import struct

from quire.guest.kernel.group import Process
from quire.guest.kernel.task import Task
from quire.guest.kernel.usage import process_clock, thread_clock, thread_of_clock
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import POINTER, S32, fail
from quire.guest.syscalls.table import syscall

__all__ = ["processor_time", "timers_clock"]

_GETRUSAGE = 98
_RUSAGE = struct.Struct("<16q")
_TMS = struct.Struct("<4q")
_TICK = os.sysconf("SC_CLK_TCK")
_SELF, _CHILDREN, _THREAD = 0, -1, 1
_MICRO = 1_000_000
#: Words of struct rusage: two times of two words each, then these.
_MAXRSS, _MINFLT = 4, 8


#: CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID.
_OF_PROCESS, _OF_THREAD = 2, 3
#: Of other numbers of clocks, all negative: which time is told, 3 for a clock of a descriptor; and whether a thread's.
_WHICH, _DESCRIPTOR, _A_THREADS = 3, 3, 4


def _whose(task: Task, clock: int) -> tuple[Process, int] | None:
    """Return the process and the thread, 0 for all, whose processor time a clock tells; None if it tells nobody's.

    As Linux does (posix-cpu-timers.c): any process's, a thread's to its own process; its caller's for number 0.
    """
    if clock in (_OF_PROCESS, _OF_THREAD):
        return task.process, task.tid if clock == _OF_THREAD else 0
    if clock >= 0 or clock & _WHICH == _DESCRIPTOR:
        return None
    number = thread_of_clock(clock)
    if clock & _A_THREADS:
        number = number or task.tid
        one = task.process.threads.get(number)
        return None if one is None or one.ended else (task.process, number)
    if number in (0, task.tid):
        return task.process, 0
    process = task.kernel.processes.get(number)
    return None if process is None else (process, 0)


def timers_clock(task: Task, clock: int) -> int | None:
    """Return a clock of processor time as timers name it; None for others, and for that of nobody."""
    whose = _whose(task, clock)
    if whose is None:
        return None
    if whose[0] is not task.process:
        return process_clock(whose[0].pid)
    return thread_clock(whose[1]) if whose[1] else _OF_PROCESS


def processor_time(task: Task, clock: int) -> int | None:
    """Return the time of a clock of processor time, in ns; None for one that is no such clock, or nobody's."""
    whose = _whose(task, clock)
    if whose is None:
        return None
    process, tid = whose
    return process.usage.thread_time(tid) if tid else process.usage.time()


@syscall(_GETRUSAGE, "getrusage", S32, POINTER, effect=Effect.GUEST)
def getrusage(task: Task, who: int, answer: int) -> int:
    """Return what the process used, the thread alone, or the children that it waited for."""
    words, own = [0] * 16, task.process
    used = task.usage
    if who in (_SELF, _THREAD):
        time = used.time() if who == _SELF else used.thread_time(task.tid)
        words[0:2] = divmod(time // 1000, _MICRO)
        words[_MAXRSS] = used.peak // 1024
        words[_MINFLT] = used.faults if who == _SELF else used.thread_faults(task.tid)
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
