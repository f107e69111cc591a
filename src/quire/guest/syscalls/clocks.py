"""Time: the host's clocks as they are, and sleeping, which a signal of the guest's ends."""

import errno
import struct
import time

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.accounting import guest_time
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, Out
from quire.guest.syscalls.table import passes, syscall
from quire.guest.syscalls.waiting import interrupted

_CLOCK_NANOSLEEP = 230
_TIMESPEC = struct.Struct("<qq")
_TIMER_ABSTIME = 1
#: CLOCK_PROCESS_CPUTIME_ID and CLOCK_THREAD_CPUTIME_ID, and the same as the C library names them.
_PROCESSOR_TIME = frozenset((2, 3, -6, -2))
_TIMEX = 208  # struct timex

passes(229, "clock_getres", INT, Out(16, nullable=True), effect=Effect.GUEST)
passes(96, "gettimeofday", Out(16, nullable=True), Out(8, nullable=True), effect=Effect.GUEST)


@syscall(227, "clock_settime", S32, POINTER, effect=Effect.GUEST)
def clock_settime(task: Task, clock: int, pointer: int) -> int:
    """Check the arguments and refuse: the machine's time is not the guest's to set."""
    if clock != time.CLOCK_REALTIME:
        return -errno.EINVAL
    return _refuse_time(task, pointer, 1_000_000_000)


@syscall(164, "settimeofday", POINTER, POINTER, effect=Effect.GUEST)
def settimeofday(task: Task, pointer: int, zone: int) -> int:
    """Check the arguments and refuse, as :func:`clock_settime` does."""
    return _refuse_time(task, pointer, 1_000_000) if pointer else -errno.EPERM


def _refuse_time(task: Task, pointer: int, parts: int) -> int:
    seconds, rest = _TIMESPEC.unpack(task.memory.read(pointer, _TIMESPEC.size))
    return -errno.EPERM if seconds >= 0 and 0 <= rest < parts else -errno.EINVAL


def _adjust(task: Task, number: int, words: tuple[int, ...], pointer: int) -> int:
    asked = task.memory.read(pointer, _TIMEX)
    if int.from_bytes(asked[:4], "little"):
        return -errno.EPERM  # only to look is free
    found = host.HostBuffer(_TIMEX, asked)
    result = host.call(number, *words, found.address)
    if result >= 0:
        task.memory.write(pointer, found.take())
    return result


@syscall(159, "adjtimex", POINTER, effect=Effect.GUEST)
def adjtimex(task: Task, pointer: int) -> int:
    """Tell how the machine's clock is kept right; EPERM for a change."""
    return _adjust(task, 159, (), pointer)


@syscall(305, "clock_adjtime", S32, POINTER, effect=Effect.GUEST)
def clock_adjtime(task: Task, clock: int, pointer: int) -> int:
    """Tell how a clock is kept right; EPERM for a change."""
    return _adjust(task, 305, (clock,), pointer)


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
