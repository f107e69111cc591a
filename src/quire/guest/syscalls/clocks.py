"""Time: the host's clocks as they are, and sleeping, which a signal of the guest's ends."""

import errno
import struct
import time

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.accounting import guest_time
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, Out
from quire.guest.syscalls.table import absent, passes, syscall
from quire.guest.syscalls.waiting import interrupted

_CLOCK_NANOSLEEP = 230
_TIMESPEC = struct.Struct("<qq")
_TIMER_ABSTIME = 1
#: CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID, and the same as the C library names them.
_PROCESSOR_TIME = frozenset((2, 3, -6, -2))
_INTERVAL = 32  # struct itimerval

passes(229, "clock_getres", INT, Out(16, nullable=True), effect=Effect.GUEST)
passes(96, "gettimeofday", Out(16, nullable=True), Out(8, nullable=True), effect=Effect.GUEST)
absent(227, "clock_settime")
absent(164, "settimeofday")
absent(305, "clock_adjtime")
absent(159, "adjtimex")


@syscall(228, "clock_gettime", S32, POINTER, effect=Effect.GUEST)
def clock_gettime(task: Task, clock: int, answer: int) -> int:
    """Return the time of a clock; those of processor time count what the guest took."""
    if clock in _PROCESSOR_TIME:
        seconds, nanos = divmod(guest_time(task), 1_000_000_000)
        task.memory.write(answer, _TIMESPEC.pack(seconds, nanos))
        return 0
    found = host.HostBuffer(_TIMESPEC.size)
    result = host.call(228, clock, found.address)
    if result == 0:
        task.memory.write(answer, found.take())
    return result


@syscall(201, "time", POINTER, effect=Effect.GUEST)
def time_(task: Task, pointer: int) -> int:
    """Return the seconds since 1970."""
    now = int(time.time())
    if pointer:
        task.memory.write_u64(pointer, now)
    return now


def _sleep(task: Task, clock: int, flags: int, request: int, rest: int) -> int:
    asked = host.HostBuffer(16, task.memory.read(request, 16))
    left = host.HostBuffer(16)
    while True:
        result = host.call(_CLOCK_NANOSLEEP, clock, flags, asked.address, left.address)
        if result != -errno.EINTR:
            return result
        if interrupted(task):
            break
        if not flags & _TIMER_ABSTIME:
            asked = host.HostBuffer(16, left.take())  # a signal that the guest blocks: sleep on
    if rest and not flags & _TIMER_ABSTIME:
        task.memory.write(rest, left.take())
    return -errno.EINTR


@syscall(35, "nanosleep", POINTER, POINTER, effect=Effect.GUEST, retries=False)
def nanosleep(task: Task, request: int, rest: int) -> int:
    """Sleep; what is left is written to `rest` when a signal ends it (EINTR)."""
    return _sleep(task, time.CLOCK_MONOTONIC, 0, request, rest)


@syscall(_CLOCK_NANOSLEEP, "clock_nanosleep", S32, S32, POINTER, POINTER, effect=Effect.GUEST, retries=False)
def clock_nanosleep(task: Task, clock: int, flags: int, request: int, rest: int) -> int:
    """Sleep on a clock, for a time or until one."""
    return _sleep(task, clock, flags, request, rest)
