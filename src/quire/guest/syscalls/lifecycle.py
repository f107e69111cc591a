"""The end of a process, its children, and random numbers that repeat from run to run."""

import errno

from quire.guest.kernel.task import Task
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32
from quire.guest.syscalls.table import NO_RESULT, Result, absent, syscall

_WAIT_OPTIONS = 0xE000000B  # WNOHANG, WUNTRACED, WCONTINUED, __WNOTHREAD, __WALL, __WCLONE
_WAITID_OPTIONS = 0xE100000F  # the same, with WEXITED, WSTOPPED and WNOWAIT
_GRND_FLAGS = 7
_GRND_RANDOM, _GRND_INSECURE = 2, 4
_RANDOM_CHUNK = 4096
_MAX_TRANSFER = 0x7FFFF000
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
def wait4(task: Task, _target: int, _status: int, options: int, _usage: int) -> int:
    """Wait for a child. There are none before fork exists; those of Quire are not the guest's to reap."""
    return -errno.EINVAL if options & ~_WAIT_OPTIONS else -errno.ECHILD


@syscall(247, "waitid", S32, S32, POINTER, U32, POINTER, effect=Effect.GUEST)
def waitid(task: Task, kind: int, _target: int, _info: int, options: int, _usage: int) -> int:
    """Wait for a child, as :func:`wait4` does."""
    if options & ~_WAITID_OPTIONS or not options & 0xE or not 0 <= kind <= 3:
        return -errno.EINVAL
    return -errno.ECHILD


@syscall(318, "getrandom", POINTER, INT, U32, effect=Effect.GUEST)
def getrandom(task: Task, pointer: int, count: int, flags: int) -> int:
    """Return numbers of the guest's seeded generator, so that a run can be repeated."""
    if flags & ~_GRND_FLAGS or flags & (_GRND_RANDOM | _GRND_INSECURE) == _GRND_RANDOM | _GRND_INSECURE:
        return -errno.EINVAL
    count, done = min(count, _MAX_TRANSFER), 0
    try:
        while done < count:
            size = min(count - done, _RANDOM_CHUNK)
            task.memory.write(pointer + done, task.rng.randbytes(size))
            done += size
    except BadAddress:
        if not done:
            raise
    return done
