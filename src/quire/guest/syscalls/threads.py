"""Calls of a thread library: segment bases, thread names and lists, and futexes of a single thread."""

import errno
import os
import struct
import time

from quire.guest.kernel.task import Task
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32, fail
from quire.guest.syscalls.state import thread_state
from quire.guest.syscalls.table import RESTART, Result, absent, syscall
from quire.guest.syscalls.waiting import wait_for_signal

_SET_GS, _SET_FS, _GET_FS, _GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_GET_CPUID = 0x1011  # whether CPUID may be executed
_ROBUST_HEAD = 24

_FUTEX_WAIT, _FUTEX_WAKE, _FUTEX_REQUEUE, _FUTEX_CMP_REQUEUE = 0, 1, 3, 4
_FUTEX_WAIT_BITSET, _FUTEX_WAKE_BITSET = 9, 10
_FUTEX_CLOCK_REALTIME, _FUTEX_PRIVATE = 256, 128

absent(334, "rseq", ordinary=True)  # the C library asks at the start of every program, and can do without
absent(449, "futex_waitv")
absent(205, "set_thread_area")
absent(211, "get_thread_area")
absent(154, "modify_ldt")


@syscall(158, "arch_prctl", S32, INT, effect=Effect.GUEST)
def arch_prctl(task: Task, code: int, value: int) -> int:
    """Set or get the FS and GS bases. EPERM for a base that is not a user address, as Linux answers."""
    registers = task.machine.registers
    if code in (_SET_FS, _SET_GS):
        if value >= TASK_SIZE:
            return -errno.EPERM
        registers.write("fs_base" if code == _SET_FS else "gs_base", value)
        return 0
    if code == _GET_CPUID:
        return 1
    if code in (_GET_FS, _GET_GS):
        task.memory.write_u64(value, registers.read("fs_base" if code == _GET_FS else "gs_base"))
        return 0
    return -errno.EINVAL


@syscall(218, "set_tid_address", POINTER, effect=Effect.GUEST)
def set_tid_address(task: Task, pointer: int) -> int:
    """Remember where to clear the thread id at its end, and return it."""
    thread_state(task).clear_child_tid = pointer
    return os.getpid()


@syscall(273, "set_robust_list", POINTER, INT, effect=Effect.GUEST)
def set_robust_list(task: Task, head: int, size: int) -> int:
    """Remember the list of robust mutexes."""
    if size != _ROBUST_HEAD:
        return -errno.EINVAL
    thread_state(task).robust_list = (head, size)
    return 0


@syscall(274, "get_robust_list", S32, POINTER, POINTER, effect=Effect.GUEST)
def get_robust_list(task: Task, thread: int, head: int, size: int) -> int:
    """Return the list of robust mutexes of this thread, the only one: others are ESRCH."""
    if thread not in (0, os.getpid()):
        return -errno.ESRCH
    pointer, length = thread_state(task).robust_list
    task.memory.write_u64(size, length)
    task.memory.write_u64(head, pointer)
    return 0


def _deadline(task: Task, operation: int, pointer: int) -> float | None:
    """Return when a futex wait ends, on the monotonic clock; None for never."""
    if not pointer:
        return None
    seconds, nanos = struct.unpack("<qq", task.memory.read(pointer, 16))
    if seconds < 0 or not 0 <= nanos < 1_000_000_000:
        raise fail(errno.EINVAL)
    moment: float = min(seconds, 1 << 40) + nanos / 1e9
    if operation & 0x7F == _FUTEX_WAIT:
        return time.monotonic() + moment
    if operation & _FUTEX_CLOCK_REALTIME:
        return time.monotonic() + moment - time.time()
    return moment


def _futex_wait(task: Task, address: int, operation: int, expected: int, timeout: int) -> Result:
    deadline = _deadline(task, operation, timeout)
    if task.memory.read_u32(address) != expected:
        return -errno.EAGAIN
    # There is one thread, so nobody can wake it: only time or a signal ends this.
    if not wait_for_signal(task, deadline):
        return -errno.ETIMEDOUT
    return RESTART if deadline is None else -errno.EINTR


@syscall(202, "futex", POINTER, U32, U32, INT, POINTER, U32, effect=Effect.GUEST)
def futex(
    task: Task, address: int, operation: int, value: int, timeout: int, other: int, third: int
) -> Result:
    """Wait or wake on a word of memory, for one thread: a wake finds nobody."""
    command = operation & 0x7F
    if address % 4:
        return -errno.EINVAL
    if address >= TASK_SIZE or not operation & _FUTEX_PRIVATE:
        task.memory.read_u32(address)  # what others could share is found by its page: EFAULT without one
    if command in (_FUTEX_WAIT, _FUTEX_WAIT_BITSET):
        if command == _FUTEX_WAIT_BITSET and not third:
            return -errno.EINVAL
        return _futex_wait(task, address, operation, value, timeout)
    if command in (_FUTEX_WAKE, _FUTEX_WAKE_BITSET):
        return -errno.EINVAL if command == _FUTEX_WAKE_BITSET and not third else 0
    if command in (_FUTEX_REQUEUE, _FUTEX_CMP_REQUEUE):
        if command == _FUTEX_CMP_REQUEUE and task.memory.read_u32(address) != third:
            return -errno.EAGAIN
        return 0
    return -errno.ENOSYS
