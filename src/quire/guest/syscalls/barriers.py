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
#: What registers, and what it allows: for all processes, for one's own, for its code too, for its sequences too.
_REGISTERS = {4: 2, 16: 8, 64: 32, 256: 128}
_SEQUENCES, _ONE_VCPU = 128, 1
_PRIVATE = (8, 32, _SEQUENCES)
_SUPPORTED = _GLOBAL | _GLOBAL_EXPEDITED | sum(_REGISTERS) | sum(_PRIVATE) | _GET_REGISTRATIONS


def _break_off_sequences(task: Task, vcpu: int | None) -> None:
    """Have threads of the process that run on other vCPUs, or on `vcpu`, leave the sequences that they are in."""
    scheduler = task.kernel.scheduler
    for lane in scheduler.lanes:
        wanted = lane is not scheduler.lane if vcpu is None else lane.number == vcpu
        thread = task.kernel.task(lane.loaded.tid) if wanted and lane.loaded is not None else None
        if thread is not None and thread.rseq is not None and thread.process.image is task.process.image:
            thread.rseq.due = True


@syscall(324, "membarrier", S32, U32, S32, effect=Effect.GUEST)
def membarrier(task: Task, command: int, flags: int, cpu: int) -> int:
    """Order memory between threads, break off sequences: EPERM for what the process has not registered for."""
    state = group_state(task)
    if flags and (flags != _ONE_VCPU or command != _SEQUENCES):
        return -errno.EINVAL
    if command == _QUERY:
        return _SUPPORTED
    if command == _GET_REGISTRATIONS:
        return state.barriers
    if command in _REGISTERS:
        state.barriers |= command
        return 0
    if command in _PRIVATE:
        if not any(_REGISTERS[one] == command for one in _REGISTERS if one & state.barriers):
            return -errno.EPERM
        if command == _SEQUENCES:
            _break_off_sequences(task, cpu if flags and cpu >= 0 else None)
        return 0
    return 0 if command in (_GLOBAL, _GLOBAL_EXPEDITED) else -errno.EINVAL
