"""prctl: what a process says of itself. All of it is a record of the guest; Quire's own process is not asked."""

import errno
from collections.abc import Callable

from quire.guest.kernel.actions import SIGNAL_COUNT
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import PAGE_4K
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, S32
from quire.guest.syscalls.procfs import command_name
from quire.guest.syscalls.state import TIMER_SLACK, group_state, thread_state
from quire.guest.syscalls.table import syscall

__all__ = ["PRCTLS"]

_NAME_BYTES = 16
_PRCTL, _CAPBSET_READ = 157, 23
_TSC_ENABLE = 1
_Words = tuple[int, int, int, int]


def _set_name(task: Task, words: _Words) -> int:
    name = b""
    for at in range(_NAME_BYTES - 1):  # one by one: the string may end right before a hole
        byte = task.memory.read(words[0] + at, 1)
        if byte == b"\0":
            break
        name += byte
    thread_state(task).name = name
    return 0


def _get_name(task: Task, words: _Words) -> int:
    task.memory.write(words[0], command_name(task).ljust(_NAME_BYTES, b"\0"))
    return 0


def _set_dumpable(task: Task, words: _Words) -> int:
    if words[0] > 1:
        return -errno.EINVAL
    group_state(task).dumpable = words[0]
    return 0


def _set_no_new_privileges(task: Task, words: _Words) -> int:
    if words != (1, 0, 0, 0):
        return -errno.EINVAL
    thread_state(task).no_new_privileges = 1
    return 0


def _set_death_signal(task: Task, words: _Words) -> int:
    if words[0] > SIGNAL_COUNT:
        return -errno.EINVAL
    thread_state(task).death_signal = words[0]
    return 0


def _get_death_signal(task: Task, words: _Words) -> int:
    task.memory.write_u32(words[0], thread_state(task).death_signal)
    return 0


def _set_timer_slack(task: Task, words: _Words) -> int:
    slack = words[0]
    thread_state(task).timer_slack = TIMER_SLACK if slack >> 63 or not slack else slack
    return 0


def _give(value: Callable[[Task], int]) -> Callable[[Task, _Words], int]:
    """Return an option that writes a number where its argument points."""

    def option(task: Task, words: _Words) -> int:
        task.memory.write_u32(words[0], value(task))
        return 0

    return option


def _set_large_pages(task: Task, words: _Words) -> int:
    if any(words[1:]):
        return -errno.EINVAL
    task.space.no_large = words[0] != 0
    return 0


def _set_adopts(task: Task, words: _Words) -> int:
    task.process.subreaper = bool(words[0])
    return 0


def _set_keep_capabilities(task: Task, words: _Words) -> int:
    if words[0] > 1:
        return -errno.EINVAL
    thread_state(task).keep_capabilities = words[0]
    return 0


def _clear_tid_address(task: Task, words: _Words) -> int:
    task.memory.write_u64(words[0], thread_state(task).clear_child_tid)
    return 0


def _bounding_capability(task: Task, words: _Words) -> int:
    return host.call(_PRCTL, _CAPBSET_READ, words[0])


def _unless(words: _Words, value: int) -> int:
    """Return `value`; EINVAL for arguments that must be 0."""
    return -errno.EINVAL if any(words) else value


def _only(wanted: int) -> Callable[[Task, _Words], int]:
    """Return an option that accepts one value, what Quire does anyway."""
    return lambda task, words: 0 if words[0] == wanted else -errno.EINVAL


#: What prctl answers to each option, by number: name and handler.
PRCTLS: dict[int, tuple[str, Callable[[Task, _Words], int]]] = {
    1: ("PR_SET_PDEATHSIG", _set_death_signal),
    2: ("PR_GET_PDEATHSIG", _get_death_signal),
    3: ("PR_GET_DUMPABLE", lambda task, words: group_state(task).dumpable),
    4: ("PR_SET_DUMPABLE", _set_dumpable),
    15: ("PR_SET_NAME", _set_name),
    16: ("PR_GET_NAME", _get_name),
    21: ("PR_GET_SECCOMP", lambda task, words: 0),
    7: ("PR_GET_KEEPCAPS", lambda task, words: thread_state(task).keep_capabilities),
    8: ("PR_SET_KEEPCAPS", _set_keep_capabilities),
    13: ("PR_GET_TIMING", lambda task, words: 0),
    14: ("PR_SET_TIMING", _only(0)),
    23: ("PR_CAPBSET_READ", _bounding_capability),
    25: ("PR_GET_TSC", _give(lambda task: _TSC_ENABLE)),
    26: ("PR_SET_TSC", _only(_TSC_ENABLE)),
    27: ("PR_GET_SECUREBITS", lambda task, words: 0),
    36: ("PR_SET_CHILD_SUBREAPER", _set_adopts),
    37: ("PR_GET_CHILD_SUBREAPER", _give(lambda task: int(task.process.subreaper))),
    40: ("PR_GET_TID_ADDRESS", _clear_tid_address),
    41: ("PR_SET_THP_DISABLE", _set_large_pages),
    42: ("PR_GET_THP_DISABLE", lambda task, words: _unless(words, int(task.space.no_large))),
    52: ("PR_GET_SPECULATION_CTRL", lambda task, words: -errno.ENODEV),
    66: ("PR_GET_MDWE", lambda task, words: _unless(words, 0)),
    29: ("PR_SET_TIMERSLACK", _set_timer_slack),
    30: ("PR_GET_TIMERSLACK", lambda task, words: thread_state(task).timer_slack),
    38: ("PR_SET_NO_NEW_PRIVS", _set_no_new_privileges),
    39: ("PR_GET_NO_NEW_PRIVS", lambda task, words: _unless(words, thread_state(task).no_new_privileges)),
    0x53564D41: ("PR_SET_VMA", lambda task, words: -errno.EINVAL if words[0] or words[1] % PAGE_4K else 0),
}


@syscall(157, "prctl", S32, INT, INT, INT, INT, effect=Effect.GUEST)
def prctl(task: Task, option: int, second: int, third: int, fourth: int, fifth: int) -> int:
    """Say something of the process: its name, whether it dumps. EINVAL for what Quire does not know."""
    entry = PRCTLS.get(option)
    return -errno.EINVAL if entry is None else entry[1](task, (second, third, fourth, fifth))
