"""Timers that send signals: alarm, setitimer, and timer_create with its relatives. They are Quire's, not the host's."""

import errno
import signal
import struct

from quire.guest.kernel.actions import SIGNAL_COUNT
from quire.guest.kernel.group import Process
from quire.guest.kernel.siginfo import SI_TIMER
from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.kernel.timers import Timer, Timers
from quire.guest.kernel.usage import process_of_clock
from quire.guest.syscalls.accounting import timers_clock
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import POINTER, S32, U32, fail
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import syscall

__all__ = ["ITIMERSPEC", "nanoseconds", "packed_times"]

_ITIMERVAL = struct.Struct("<qqqq")  # interval, value, each in seconds and microseconds
ITIMERSPEC = _ITIMERVAL  # the same in nanoseconds
_SIGEVENT = struct.Struct("<Qiii")  # value, signal, how to notify, thread
_SIGEVENT_BYTES = 64
_SECOND = 1_000_000_000
_MICRO = 1000
#: Longer than any machine runs; what a guest asks for beyond it is the same to it.
_LONGEST = 1 << 62
_ABSOLUTE = 1  # TIMER_ABSTIME
_SIGNAL, _NONE, _THREAD_ID = 0, 1, 4
#: CLOCK_REALTIME, MONOTONIC, BOOTTIME, TAI.
_CLOCKS = frozenset((0, 1, 7, 11))
#: Clocks that have no timers: MONOTONIC_RAW, the two coarse ones, and the alarms of a machine without such a clock.
_TIMELESS = frozenset((4, 5, 6, 8, 9))
_SIGPENDING = 11  # RLIMIT_SIGPENDING bounds timers too: each may have a signal that waits


def _changed(task: Task) -> None:
    task.kernel.timers_changed()


def nanoseconds(seconds: int, parts: int, unit: int) -> int:
    """Return seconds and parts of one as ns. EINVAL for what is no time."""
    if seconds < 0 or not 0 <= parts < _SECOND // unit:
        raise fail(errno.EINVAL)
    return min(seconds * _SECOND + parts * unit, _LONGEST)


def packed_times(left: int, interval: int, unit: int) -> bytes:
    """Return what is left and the interval as the guest's structure, rounded up: a timer that runs is never at 0."""
    left, interval = -(-left // unit), -(-interval // unit)
    second = _SECOND // unit
    return _ITIMERVAL.pack(*divmod(interval, second), *divmod(left, second))


def _start(timers: Timers, timer: Timer, value: int, interval: int) -> None:
    timer.set(timers.now(timer.clock) + value if value else None, interval)


def _interval_timer(group: ThreadGroup, which: int) -> Timer:
    timers = group.timers.interval
    if not 0 <= which < len(timers):
        raise fail(errno.EINVAL)
    return timers[which]


def _state(timers: Timers, timer: Timer, unit: int) -> bytes:
    return packed_times(timer.left(timers.now(timer.clock)), timer.interval, unit)


@syscall(36, "getitimer", S32, POINTER, effect=Effect.PLAYED)
def getitimer(task: Task, which: int, old: int) -> int:
    """Return what is left of a timer."""
    task.memory.write(old, _state(task.timers, _interval_timer(task, which), _MICRO))
    return 0


@syscall(38, "setitimer", S32, POINTER, POINTER, effect=Effect.PLAYED)
def setitimer(task: Task, which: int, new: int, old: int) -> int:
    """Start or stop a timer of real time, of the guest's time, or of both, and return what was left of it."""
    words = _ITIMERVAL.unpack(task.memory.read(new, _ITIMERVAL.size)) if new else (0, 0, 0, 0)
    interval = nanoseconds(words[0], words[1], _MICRO)
    value = nanoseconds(words[2], words[3], _MICRO)
    timer = _interval_timer(task, which)
    before = _state(task.timers, timer, _MICRO)
    _start(task.timers, timer, value, interval)
    _changed(task)
    if old:
        task.memory.write(old, before)
    return 0


@syscall(37, "alarm", U32, effect=Effect.PLAYED)
def alarm(task: Task, seconds: int) -> int:
    """Send SIGALRM in so many seconds; return how many were left of the alarm before."""
    timers, timer = task.timers, task.timers.interval[0]
    left = timer.left(timers.now(timer.clock))
    _start(timers, timer, seconds * _SECOND, 0)
    _changed(task)
    whole, parts = divmod(left, _SECOND)
    # As Linux rounds: to the nearest second, but never down to none.
    return whole + 1 if parts >= _SECOND // 2 or (left and not whole) else whole


@syscall(222, "timer_create", S32, POINTER, POINTER, effect=Effect.PLAYED)
def timer_create(task: Task, clock: int, event: int, answer: int) -> int:
    """Make a timer on a clock, which sends a signal or nothing. EINVAL for clocks that Quire does not have."""
    used = timers_clock(task, clock)
    if used is not None:
        clock = used
    elif clock not in _CLOCKS:
        return -errno.EOPNOTSUPP if clock in _TIMELESS else -errno.EINVAL
    if len(task.timers.made) >= group_state(task).limits[_SIGPENDING][0]:
        return -errno.EAGAIN
    signo, value = int(signal.SIGALRM), None
    if event:
        value, signo, how, thread = _SIGEVENT.unpack_from(task.memory.read(event, _SIGEVENT_BYTES))
        if how not in (_SIGNAL, _NONE, _THREAD_ID) or (
            how == _THREAD_ID and task.kernel.task(thread) is None
        ):
            return -errno.EINVAL
        if how != _NONE and not 1 <= signo <= SIGNAL_COUNT:
            return -errno.EINVAL
        signo = 0 if how == _NONE else signo
    timer = task.timers.make(clock, signo, value)
    assert timer.ident is not None
    task.memory.write_u32(answer, timer.ident)
    return 0


def _process_behind(group: ThreadGroup, timer: Timer) -> Process | None:
    """Return the process by whose time a timer goes, None if it has gone."""
    number = process_of_clock(timer.clock)
    return group.process if number is None else group.kernel.processes.get(number)


def _made(group: ThreadGroup, ident: int) -> Timer:
    timer = group.timers.made.get(ident)
    if timer is None:
        raise fail(errno.EINVAL)
    return timer


@syscall(223, "timer_settime", S32, S32, POINTER, POINTER, effect=Effect.PLAYED)
def timer_settime(task: Task, ident: int, flags: int, new: int, old: int) -> int:
    """Start a timer, in a time or at one, or stop it; return what was left of it."""
    if not new:
        return -errno.EINVAL
    words = ITIMERSPEC.unpack(task.memory.read(new, ITIMERSPEC.size))
    interval, value = nanoseconds(words[0], words[1], 1), nanoseconds(words[2], words[3], 1)
    timers, timer = task.timers, _made(task, ident)
    process = _process_behind(task, timer)
    if process is None or process.ended:
        return -errno.ESRCH
    before = _state(timers, timer, 1)
    if value and flags & _ABSOLUTE:
        timer.set(value, interval)
    else:
        _start(timers, timer, value, interval)
    _changed(task)
    if old:
        task.memory.write(old, before)
    return 0


@syscall(224, "timer_gettime", S32, POINTER, effect=Effect.PLAYED)
def timer_gettime(task: Task, ident: int, answer: int) -> int:
    """Return what is left of a timer."""
    timer = _made(task, ident)
    there = _process_behind(task, timer) is not None
    task.memory.write(answer, _state(task.timers, timer, 1) if there else packed_times(0, 0, 1))
    return 0


@syscall(225, "timer_getoverrun", S32, effect=Effect.PLAYED)
def timer_getoverrun(task: Task, ident: int) -> int:
    """Return how many expirations the timer's last signal stands for, beside its own."""
    timer = _made(task, ident)
    waits = task.signals.waits(timer.signo, SI_TIMER, ident)
    return timer.last if waits else timer.overrun


@syscall(226, "timer_delete", S32, effect=Effect.PLAYED)
def timer_delete(task: Task, ident: int) -> int:
    """Stop a timer and forget it."""
    del task.timers.made[_made(task, ident).ident or 0]
    _changed(task)
    return 0
