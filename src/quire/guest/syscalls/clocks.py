"""Time: the guest's clocks, and sleeping, which a signal of the guest's ends."""

import errno
import struct
import time

from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls import host
from quire.guest.syscalls.accounting import processor_time
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import POINTER, S32
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.waiting import deadline, interrupted

_CLOCK_NANOSLEEP = 230
_TIMESPEC = struct.Struct("<qq")
_TIMER_ABSTIME = 1
_SECOND = 1_000_000_000
#: CLOCK_REALTIME, MONOTONIC, RAW, the coarse ones, BOOTTIME, TAI; those of a machine that wakes itself are not there.
_KNOWN = frozenset((0, 1, 4, 5, 6, 7, 11))
_FOUND = host.HostBuffer(16)
#: Clocks by which one may sleep: REALTIME, MONOTONIC, the process's, BOOTTIME, TAI; and those by which nobody can.
_SLEEPS_BY, _SLEEPLESS = frozenset((0, 1, 2, -6, 7, 11)), frozenset((3, 4, 5, 6, 8, 9))
_TIMEX = 208  # struct timex


@syscall(229, "clock_getres", S32, POINTER, effect=Effect.GUEST)
def clock_getres(task: Task, clock: int, answer: int) -> int:
    """Return the resolution of a clock: the host's."""
    if clock < 0:
        if processor_time(task, clock) is None:
            return -errno.EINVAL
        clock = -8 | clock & 7  # that of the caller
    result = host.call(229, clock, _FOUND.address)
    if result == 0 and answer:
        task.memory.write(answer, _FOUND.take())
    return result


@syscall(96, "gettimeofday", POINTER, POINTER, effect=Effect.GUEST)
def gettimeofday(task: Task, pointer: int, zone: int) -> int:
    """Return the date in microseconds; the zone is UTC."""
    if pointer:
        seconds, nanos = divmod(task.kernel.clock.now(time.CLOCK_REALTIME), _SECOND)
        task.memory.write(pointer, _TIMESPEC.pack(seconds, nanos // 1000))
    if zone:
        task.memory.write(zone, bytes(8))
    return 0


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
    now = task.kernel.clock.now(clock) if clock in _KNOWN else processor_time(task, clock)
    if now is None:
        return (
            -errno.EINVAL if clock < 0 else host.call(228, clock, _FOUND.address)
        )  # which says what is wrong
    task.memory.write(answer, _TIMESPEC.pack(*divmod(now, _SECOND)))
    return 0


@syscall(201, "time", POINTER, effect=Effect.GUEST)
def time_(task: Task, pointer: int) -> int:
    """Return the seconds since 1970."""
    now = task.kernel.clock.now(time.CLOCK_REALTIME) // _SECOND
    if pointer:
        task.memory.write_u64(pointer, now)
    return now


def _sleep(task: Task, clock: int, flags: int, request: int, rest: int) -> int:
    seconds, nanos = _TIMESPEC.unpack(task.memory.read(request, _TIMESPEC.size))
    if seconds < 0 or not 0 <= nanos < _SECOND:
        return -errno.EINVAL
    if clock not in _SLEEPS_BY:
        return -errno.EOPNOTSUPP if clock in _SLEEPLESS else -errno.EINVAL
    asked, now = min(seconds, 1 << 32) * _SECOND + nanos, task.kernel.clock.now()
    if flags & _TIMER_ABSTIME:
        asked -= task.kernel.clock.now(clock)
    until = deadline(task, asked)
    assert until is not None
    if now >= until:
        return 0
    if interrupted(task):
        if rest and not flags & _TIMER_ABSTIME:
            task.memory.write(rest, _TIMESPEC.pack(*divmod(until - now, _SECOND)))
        return -errno.EINTR
    raise Blocks(until=until)


@syscall(35, "nanosleep", POINTER, POINTER, effect=Effect.GUEST, retries=False)
def nanosleep(task: Task, request: int, rest: int) -> int:
    """Sleep; what is left is written to `rest` when a signal ends it (EINTR)."""
    return _sleep(task, time.CLOCK_MONOTONIC, 0, request, rest)


@syscall(_CLOCK_NANOSLEEP, "clock_nanosleep", S32, S32, POINTER, POINTER, effect=Effect.GUEST, retries=False)
def clock_nanosleep(task: Task, clock: int, flags: int, request: int, rest: int) -> int:
    """Sleep on a clock, for a time or until one."""
    return _sleep(task, clock, flags, request, rest)
