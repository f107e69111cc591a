"""The end of a process, its children, and random numbers that repeat from run to run."""

import errno

from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, OPEN_FD, POINTER, S32, U32
from quire.guest.syscalls.table import NO_RESULT, Result, absent, syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, check_ranges, fill_seeded

_WAIT_OPTIONS = 0xE000000B  # WNOHANG, WUNTRACED, WCONTINUED, __WNOTHREAD, __WALL, __WCLONE
_WAITID_OPTIONS = 0xE100000F  # the same, with WEXITED, WSTOPPED and WNOWAIT
_P_PID, _P_PIDFD = 1, 3
_NO_GROUP = -(1 << 31)  # whose negative is no number of a group
_GRND_FLAGS = 7
_GRND_RANDOM, _GRND_INSECURE = 2, 4
_LATER = "threads and processes come in a later version"

absent(56, "clone", _LATER)
absent(57, "fork", _LATER)
absent(58, "vfork", _LATER)
absent(435, "clone3", _LATER)
absent(59, "execve", _LATER)
absent(322, "execveat", _LATER)


@syscall(60, "exit", S32, effect=Effect.GUEST)
@syscall(231, "exit_group", S32, effect=Effect.GUEST)
def exit_(task: Task, status: int) -> Result:
    """End the process; of its status the low 8 bits count."""
    task.exit_status = status & 0xFF
    return NO_RESULT


@syscall(61, "wait4", S32, POINTER, U32, POINTER, effect=Effect.GUEST)
def wait4(task: Task, target: int, _status: int, options: int, _usage: int) -> int:
    """Wait for a child. There are none before fork exists; those of Quire are not the guest's to reap."""
    if options & ~_WAIT_OPTIONS:
        return -errno.EINVAL
    return -errno.ESRCH if target == _NO_GROUP else -errno.ECHILD


@syscall(247, "waitid", S32, S32, POINTER, U32, POINTER, effect=Effect.GUEST)
def waitid(task: Task, kind: int, target: int, _info: int, options: int, _usage: int) -> int:
    """Wait for a child, as :func:`wait4` does."""
    if options & ~_WAITID_OPTIONS or not options & 0xE or not 0 <= kind <= 3:
        return -errno.EINVAL
    if (kind == _P_PID and target <= 0) or (kind == _P_PIDFD and target < 0):
        return -errno.EINVAL
    if kind == _P_PIDFD:
        OPEN_FD.value(task, target)
    return -errno.ECHILD


@syscall(318, "getrandom", POINTER, INT, U32, effect=Effect.GUEST)
def getrandom(task: Task, pointer: int, count: int, flags: int) -> int:
    """Return numbers of the guest's seeded generator, so that a run can be repeated."""
    if flags & ~_GRND_FLAGS or flags & (_GRND_RANDOM | _GRND_INSECURE) == _GRND_RANDOM | _GRND_INSECURE:
        return -errno.EINVAL
    segments = [(pointer, min(count, MAX_TRANSFER))]
    check_ranges(segments)
    return fill_seeded(task, segments)
