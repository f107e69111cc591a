"""Calls of a thread library: segment bases, thread numbers, restartable sequences."""

import errno

from quire.guest.kernel.rseq import RSEQ_ALIGN, RSEQ_BYTES, RSEQ_SECTION, Rseq
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import TASK_SIZE
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, U32
from quire.guest.syscalls.state import thread_state
from quire.guest.syscalls.table import absent, syscall

_SET_GS, _SET_FS, _GET_FS, _GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_UNREGISTER = 1  # of rseq's flags
_GET_CPUID = 0x1011  # whether CPUID may be executed
absent(205, "set_thread_area")
absent(211, "get_thread_area")
absent(154, "modify_ldt")


@syscall(158, "arch_prctl", S32, INT, effect=Effect.PLAYED)
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


@syscall(334, "rseq", POINTER, U32, S32, U32, effect=Effect.PLAYED)
def rseq(task: Task, pointer: int, length: int, flags: int, signature: int) -> int:
    """Register where the thread is told its vCPU, and which sequences are broken off when it is taken off; or leave."""
    own = task.rseq
    if flags & ~_UNREGISTER:
        return -errno.EINVAL
    if own is not None:
        if (own.address, own.length) != (pointer, length):
            return -errno.EINVAL
        if own.signature != signature:
            return -errno.EPERM
        if not flags:
            return -errno.EBUSY
        own.forget(task.memory)
        task.rseq = None
        return 0
    if flags or length < RSEQ_BYTES or pointer % RSEQ_ALIGN:
        return -errno.EINVAL
    if pointer + length > TASK_SIZE:
        return -errno.EFAULT
    if task.memory.read_u64(pointer + RSEQ_SECTION):  # left there by who had the memory before
        task.memory.write_u64(pointer + RSEQ_SECTION, 0)
    task.rseq = Rseq(pointer, length, signature, task.process.image.concurrent)
    return 0


@syscall(218, "set_tid_address", POINTER, effect=Effect.PLAYED)
def set_tid_address(task: Task, pointer: int) -> int:
    """Remember where to clear the thread id at its end, and return it."""
    thread_state(task).clear_child_tid = pointer
    return task.tid
