"""The end of a thread and of a process, waiting for children, and random numbers that repeat from run to run."""

import errno
import signal
import struct

from quire.guest.kernel.group import Change, Process
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, OPEN_FD, POINTER, S32, U32
from quire.guest.syscalls.pidfds import process_of
from quire.guest.syscalls.table import NO_RESULT, Result, syscall
from quire.guest.syscalls.transfer import MAX_TRANSFER, check_ranges, fill_seeded

_NOHANG, _STOPPED, _EXITED, _CONTINUED, _NOWAIT = 1, 2, 4, 8, 0x0100_0000
_NOTHREAD, _ALL, _CLONES = 0x2000_0000, 0x4000_0000, 0x8000_0000
_WAIT_OPTIONS = _NOHANG | _STOPPED | _CONTINUED | _NOTHREAD | _ALL | _CLONES
_WAITID_OPTIONS = _WAIT_OPTIONS | _EXITED | _NOWAIT
_P_ALL, _P_PID, _P_PGID, _P_PIDFD = 0, 1, 2, 3
_NO_GROUP = -(1 << 31)  # whose negative is no number of a group
_RUSAGE = struct.Struct("<16q")
_INFO = struct.Struct("<iiiIIIi")
_MICRO = 1_000_000
_GRND_FLAGS = 7
_GRND_RANDOM, _GRND_INSECURE = 2, 4


@syscall(60, "exit", S32, effect=Effect.PLAYED)
def exit_(task: Task, status: int) -> Result:
    """End the thread, and with the last the process; of its status the low 8 bits count."""
    task.exit_thread(status & 0xFF)
    return NO_RESULT


@syscall(231, "exit_group", S32, effect=Effect.PLAYED)
def exit_group(task: Task, status: int) -> Result:
    """End the process."""
    task.exit_process(status & 0xFF)
    return NO_RESULT


def _children(task: Task, kind: int, target: int, options: int) -> list[Process]:
    """Return the children that a call asks about."""
    found = []
    for _, child in sorted(task.process.children.items()):
        named = (
            kind == _P_ALL
            or (kind == _P_PID and child.pid == target)
            or (kind == _P_PGID and child.group == target)
        )
        plain = child.exit_signal == signal.SIGCHLD
        if named and (options & _ALL or plain != bool(options & _CLONES)):
            found.append(child)
    return found


def _change(child: Process, options: int) -> tuple[Change, int] | None:
    """Return what of a child is to be told, None for nothing."""
    if child.ended:
        live = any(True for _ in child.live())
        return child.ending if options & _EXITED and not live else None
    for change in child.changes:
        if options & (_STOPPED if change[0] is Change.STOPPED else _CONTINUED):
            return change
    return None


def _wait(task: Task, kind: int, target: int, options: int) -> tuple[Process, Change, int] | None:
    """Return a child that changed, how, and the number that goes with it; None for WNOHANG. Raises OSError (ECHILD)."""
    children = _children(task, kind, target, options)
    for child in children:
        change = _change(child, options)
        if change is not None:
            if not options & _NOWAIT:
                _take(task, child)
            return child, *change
    if not children:
        raise OSError(errno.ECHILD, "no child")
    if options & _NOHANG:
        return None
    raise Blocks(queues=((task.process.waiting, 0),))


def _take(task: Task, child: Process) -> None:
    """The parent has heard of it: an ended child goes."""
    child.changes.clear()
    if child.ended:
        own = task.process
        own.children_time += child.usage.time() + child.children_time
        own.children_faults += child.usage.faults + child.children_faults
        own.children_peak = max(own.children_peak, child.usage.peak, child.children_peak)
        task.kernel.bury(child)


def _give_usage(task: Task, child: Process, pointer: int) -> None:
    if pointer:
        words = [0] * 16
        words[0:2] = divmod((child.usage.time() + child.children_time) // 1000, _MICRO)
        words[4] = max(child.usage.peak, child.children_peak) // 1024
        words[8] = child.usage.faults + child.children_faults
        task.memory.write(pointer, _RUSAGE.pack(*words))


@syscall(61, "wait4", S32, POINTER, U32, POINTER, effect=Effect.PLAYED, restart=True)
def wait4(task: Task, target: int, status: int, options: int, usage: int) -> int:
    """Wait for a child to end, to stop or to go on."""
    if options & ~_WAIT_OPTIONS:
        return -errno.EINVAL
    if target == _NO_GROUP:
        return -errno.ESRCH
    kind = _P_ALL if target == -1 else _P_PID if target > 0 else _P_PGID
    number = target if target > 0 else -target or task.process.group
    found = _wait(task, kind, number, options | _EXITED)
    if found is None:
        return 0
    child, change, value = found
    if status:
        task.memory.write_u32(status, child.status(change, value))
    _give_usage(task, child, usage)
    return child.pid


@syscall(247, "waitid", S32, S32, POINTER, U32, POINTER, effect=Effect.PLAYED, restart=True)
def waitid(task: Task, kind: int, target: int, info: int, options: int, usage: int) -> int:
    """Wait for a child, as :func:`wait4` does, and be told by a siginfo."""
    if options & ~_WAITID_OPTIONS or not options & (_EXITED | _STOPPED | _CONTINUED) or not 0 <= kind <= 3:
        return -errno.EINVAL
    if (kind == _P_PID and target <= 0) or (kind in (_P_PGID, _P_PIDFD) and target < 0):
        return -errno.EINVAL
    if kind == _P_PIDFD:
        OPEN_FD.value(task, target)
        process = process_of(task, target)
        if process is None:
            return -errno.EBADF
        kind, target = _P_PID, process.pid
    found = _wait(task, kind, target or task.process.group, options)
    if info:
        words = (0, 0, 0, 0, 0, 0, 0)
        if found is not None:
            child, change, value = found
            words = (signal.SIGCHLD, 0, change.value, 0, child.pid, 0, value)
        task.memory.write(info, _INFO.pack(*words))
    if found is not None:
        _give_usage(task, found[0], usage)
    return 0


@syscall(318, "getrandom", POINTER, INT, U32, effect=Effect.GUEST)
def getrandom(task: Task, pointer: int, count: int, flags: int) -> int:
    """Return numbers of the guest's seeded generator, so that a run can be repeated."""
    if flags & ~_GRND_FLAGS or flags & (_GRND_RANDOM | _GRND_INSECURE) == _GRND_RANDOM | _GRND_INSECURE:
        return -errno.EINVAL
    segments = [(pointer, min(count, MAX_TRANSFER))]
    check_ranges(segments)
    return fill_seeded(task, segments)
