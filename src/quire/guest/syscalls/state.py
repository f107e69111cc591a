"""What the kernel remembers beyond memory and signals: of a process its limits and channels, of a thread its name."""

import errno
import os
import resource
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from quire.arch import WORD
from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.syscalls.host import identity_of

__all__ = [
    "QUIRE_DESCRIPTORS",
    "RLIMITS",
    "GroupState",
    "ThreadState",
    "admit",
    "group_state",
    "is_terminal_or_null",
    "thread_state",
]

#: Quire's own descriptors live at this number and above; no guest may name one.
QUIRE_DESCRIPTORS = 900


#: Linux has this many resource limits (RLIM_NLIMITS).
RLIMITS = 16


def _initial_limits() -> dict[int, tuple[int, int]]:
    unlimited = WORD
    limits = {}
    for number in range(RLIMITS):
        soft, hard = resource.getrlimit(number)
        limits[number] = (soft & unlimited, hard & unlimited)
    soft, hard = limits[resource.RLIMIT_NOFILE]
    limits[resource.RLIMIT_NOFILE] = (min(soft, QUIRE_DESCRIPTORS), min(hard, QUIRE_DESCRIPTORS))
    return limits


@dataclass(slots=True)
class GroupState:
    """One process's entry in the kernel's tables: what its threads share. It starts as the host's own."""

    #: Resource limits, soft and hard, by number. Virtual: a guest's limit must not hit Quire itself.
    limits: dict[int, tuple[int, int]] = field(default_factory=_initial_limits)
    dumpable: int = 1
    #: (device, inode) of the channels that a sandboxed guest may write to: its standard output and error, and
    #: the pipes, event descriptors and memory files that it made itself. Survives dup, unlike numbers.
    outputs: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for descriptor in (1, 2):
            self.own(descriptor)

    @property
    def descriptor_limit(self) -> int:
        """The number at and above which this process gets no new descriptor."""
        return min(self.limits[resource.RLIMIT_NOFILE][0], QUIRE_DESCRIPTORS)

    def own(self, descriptor: int) -> None:
        """Let a sandboxed guest write to what `descriptor` names."""
        identity = identity_of(descriptor)
        if identity is not None:
            self.outputs.add(identity)

    def owns(self, descriptor: int) -> bool:
        """Whether a sandboxed guest may write to what `descriptor` names."""
        identity = identity_of(descriptor)
        return identity is None or identity in self.outputs  # a closed one: the call itself says EBADF


@dataclass(slots=True)
class ThreadState:
    """One thread's entry in the kernel's tables."""

    #: prctl(PR_SET_NAME); None until it is set: then the program's file name.
    name: bytes | None = None
    no_new_privileges: int = 0
    robust_list: tuple[int, int] = (0, 24)
    clear_child_tid: int = 0


# Kept here and not by the task: both are the system calls' alone.
_GROUPS: WeakKeyDictionary[ThreadGroup, GroupState] = WeakKeyDictionary()
_THREADS: WeakKeyDictionary[Task, ThreadState] = WeakKeyDictionary()


def group_state(group: ThreadGroup) -> GroupState:
    """Return the kernel's state of the process that `group` is, made at its first system call."""
    state = _GROUPS.get(group)
    if state is None:
        state = _GROUPS[group] = GroupState()
        hard = state.limits[resource.RLIMIT_STACK][1]
        state.limits[resource.RLIMIT_STACK] = (min(group.space.stack_limit, hard), hard)
    return state


def thread_state(task: Task) -> ThreadState:
    """Return the kernel's state of the thread that `task` is, made at its first system call."""
    state = _THREADS.get(task)
    if state is None:
        group_state(task)  # no call may come before what that takes from the host
        state = _THREADS[task] = ThreadState()
    return state


def admit(group: ThreadGroup, descriptor: int) -> int:
    """Return a descriptor that the host just made, or close it and return -EMFILE when it is over the limit.

    The host gives out the lowest free number, so this is the number that a native run would get.
    """
    if descriptor < group_state(group).descriptor_limit:
        return descriptor
    os.close(descriptor)
    return -errno.EMFILE


def is_terminal_or_null(descriptor: int) -> bool:
    """Whether a descriptor names /dev/null, /dev/zero, /dev/full or /dev/tty: harmless to write to."""
    status = os.fstat(descriptor)
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) in {(1, 3), (1, 5), (1, 7), (5, 0)}
