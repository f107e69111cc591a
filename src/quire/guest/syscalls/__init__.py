"""The system calls of a process guest: one table, and :func:`dispatch` which runs an entry of it.

Quire is the guest's kernel, and its host is x86-64 Linux as well: most calls are the host's own with the
guest's pointers replaced. What differs (memory, signals, exit, seeded randomness, names in /proc) has a
handler. Contract: a call never raises for anything that a guest does; it answers -errno as Linux would.
Registers, addresses and sizes are taken as hostile. Calls that are not there answer ENOSYS, which
`task.lacks` counts and tells.
"""

import errno

from quire.errors import BackendError
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls import (  # noqa: F401 - each module declares its calls in the table
    accounting,
    barriers,
    beginnings,
    clocks,
    connections,
    descriptors,
    fcntl,
    files,
    futexes,
    identity,
    ids,
    io,
    ioctls,
    lifecycle,
    limits,
    memory,
    messages,
    named_queues,
    opening,
    own_memory,
    pidfds,
    policies,
    polling,
    prctl,
    scheduling,
    semaphores,
    shared_memory,
    signalfds,
    signalling,
    sockets,
    threads,
    timerfds,
    timers,
    unsupported,
)
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.file_times import may_stamp, prepare_stamps
from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.sandbox import check_names, verdict
from quire.guest.syscalls.table import AGAIN, NO_RESULT, RESTART, SYSCALLS, Result, Special, Syscall
from quire.guest.syscalls.waiting import interrupted

__all__ = [
    "AGAIN",
    "NO_RESULT",
    "RESTART",
    "SYSCALLS",
    "Special",
    "Syscall",
    "answer",
    "dispatch",
    "syscall_name",
]


def syscall_name(number: int) -> str:
    """Return a call's name, or ``syscall_N`` for a number that Linux does not have."""
    entry = SYSCALLS.get(number)
    return entry.name if entry is not None else f"syscall_{number}"


def dispatch(task: Task, number: int, arguments: tuple[int, int, int, int, int, int]) -> Result:
    """Do the system call `number` for `task` and return its result, -errno, or a :class:`Special`.

    `arguments` are RDI, RSI, RDX, R10, R8, R9, unsigned. RESTART means that a signal interrupted a call which Linux
    restarts; NO_RESULT that the registers are final. Raises nothing for what a guest does.
    """
    number = signed32(number)  # Linux looks at EAX only
    entry = SYSCALLS.get(number)
    return answer(task, entry, arguments, syscall_name(number) if entry is None else entry.name)


def answer(task: Task, entry: Syscall | None, arguments: tuple[int, ...], name: str) -> Result:
    """Do the system call `entry`, which the guest knows as `name`, as :func:`dispatch` does; None is one not there."""
    if entry is None or entry.run is None:
        key = f"{name} ({entry.note})" if entry is not None and entry.note else name
        task.lacks(key, ordinary=entry is not None and entry.ordinary)
        return -errno.ENOSYS
    while True:
        try:
            result = _answer(task, entry, arguments)
        except Blocks as wait:
            wait.restarts = entry.restart and not wait.timed
            raise
        # A signal that the guest blocks or ignores wakes the host's call, but not the guest's.
        if result != -errno.EINTR or not entry.retries or interrupted(task):
            break
    return RESTART if result == -errno.EINTR and entry.restart else result


def _answer(task: Task, entry: Syscall, registers: tuple[int, ...]) -> Result:
    assert entry.run is not None
    try:
        if task.options.sandbox:
            answer = verdict(task, entry.effect, registers)
            if answer is not None:
                return answer
            if entry.effect in (Effect.READS, Effect.WATCHES):
                check_names(task, entry.kinds, registers)
        if not may_stamp(task, entry):
            return entry.run(task, registers)
        prepare_stamps(task, entry, registers)
        try:
            return entry.run(task, registers)
        finally:
            task.kernel.file_times.end()
    except BadAddress:
        return -errno.EFAULT
    except BackendError:
        raise  # ours, not the guest's
    except OSError as error:
        return -(error.errno or errno.EIO)
