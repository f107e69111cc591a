"""Timers that are read by descriptors, on the guest's clock: timerfd_create and its relatives."""

import errno
import os

from quire.guest.kernel.task import Task
from quire.guest.kernel.timer_file import TimerFile
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import capable
from quire.guest.syscalls.kinds import FD, POINTER, S32
from quire.guest.syscalls.played import open_played
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.timers import ITIMERSPEC, nanoseconds, packed_times

_SETTIME, _GETTIME = 286, 287
#: CLOCK_REALTIME, MONOTONIC, BOOTTIME; and the two that would wake a machine, with those whose time they tell.
_CLOCKS, _ALARMS = (0, 1, 7), {8: 0, 9: 7}
_ABSOLUTE, _CANCEL_ON_SET = 1, 2


@syscall(283, "timerfd_create", S32, S32, effect=Effect.GUEST)
def timerfd_create(task: Task, clock: int, flags: int) -> int:
    """Make a timer that is read. EINVAL for clocks without timers, EPERM for an alarm clock of who has no rights."""
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK) or clock not in (*_CLOCKS, *_ALARMS):
        return -errno.EINVAL
    if clock in _ALARMS and not capable(task):
        return -errno.EPERM
    return open_played(task, TimerFile(_ALARMS.get(clock, clock), task.kernel.clock.now), flags)


@syscall(_SETTIME, "timerfd_settime", FD, S32, POINTER, POINTER, effect=Effect.DESCRIPTION)
def timerfd_settime(task: Task, descriptor: int, flags: int, new: int, old: int) -> int:
    """Start a timer, in a time or at one, or stop it; return what was left.

    A timer that the guest was started with is the host's.
    """
    words = ITIMERSPEC.unpack(task.memory.read(new, ITIMERSPEC.size))
    if flags & ~(_ABSOLUTE | _CANCEL_ON_SET):
        return -errno.EINVAL
    interval, value = nanoseconds(words[0], words[1], 1), nanoseconds(words[2], words[3], 1)
    file = task.kernel.files.named(descriptor)
    if not isinstance(file, TimerFile):
        asked, before = host.HostBuffer(ITIMERSPEC.size, ITIMERSPEC.pack(*words)), host.HostBuffer(32)
        result = host.call(_SETTIME, descriptor, flags, asked.address, before.address)
        if result < 0:
            return result
        left = before.take()
    else:
        left = packed_times(*file.state(), 1)
        file.set(value, interval, absolute=bool(flags & _ABSOLUTE))
        task.kernel.timers_changed()
    if old:
        task.memory.write(old, left)
    return 0


@syscall(_GETTIME, "timerfd_gettime", FD, POINTER, effect=Effect.GUEST)
def timerfd_gettime(task: Task, descriptor: int, answer: int) -> int:
    """Return what is left of a timer."""
    file = task.kernel.files.named(descriptor)
    if not isinstance(file, TimerFile):
        found = host.HostBuffer(ITIMERSPEC.size)
        result = host.call(_GETTIME, descriptor, found.address)
        left = found.take()
        if result < 0:
            return result
    else:
        left = packed_times(*file.state(), 1)
        task.kernel.timers_changed()
    task.memory.write(answer, left)
    return 0
