"""membarrier: an order of memory between threads. One task runs at a time, so that a barrier is had without work.

What a process registers for is kept, since Linux refuses the others (kernel/sched/membarrier.c).
"""

import errno

from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import S32, U32
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import syscall

_QUERY, _GLOBAL, _GLOBAL_EXPEDITED, _GET_REGISTRATIONS = 0, 1, 2, 512
#: What registers, and what it allows: for all processes, for one's own, for its code too (none for rseq).
_REGISTERS = {4: 2, 16: 8, 64: 32}
_PRIVATE = (8, 32)
_SUPPORTED = _GLOBAL | _GLOBAL_EXPEDITED | sum(_REGISTERS) | sum(_PRIVATE) | _GET_REGISTRATIONS


@syscall(324, "membarrier", S32, U32, S32, effect=Effect.GUEST)
def membarrier(task: Task, command: int, flags: int, _cpu: int) -> int:
    """Order memory between threads: EPERM for what the process has not registered for."""
    state = group_state(task)
    if flags:
        return -errno.EINVAL
    if command == _QUERY:
        return _SUPPORTED
    if command == _GET_REGISTRATIONS:
        return state.barriers
    if command in _REGISTERS:
        state.barriers |= command
        return 0
    if command in _PRIVATE:
        return (
            0
            if any(
                allowed == command and register & state.barriers for register, allowed in _REGISTERS.items()
            )
            else -errno.EPERM
        )
    return 0 if command in (_GLOBAL, _GLOBAL_EXPEDITED) else -errno.EINVAL
