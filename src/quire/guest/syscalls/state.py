"""What the kernel remembers beyond memory and signals: of a process its limits and channels, of a thread its name."""

import copy
import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakKeyDictionary

from quire.arch import WORD
from quire.guest.kernel.credentials import Credentials
from quire.guest.kernel.group import Process
from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls.host import identity_of, is_nameless
from quire.guest.syscalls.readable import Readable
from quire.own_descriptors import DESCRIPTOR_LIMITS, FIRST_OWN

__all__ = [
    "RLIMITS",
    "TIMER_SLACK",
    "UMASK_BEFORE",
    "GroupState",
    "ThreadState",
    "admit",
    "copy_group_state",
    "copy_thread_state",
    "creating",
    "group_state",
    "limit_of",
    "limit_process",
    "part_group_state",
    "thread_state",
]


def _umask_now() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


#: The umask that Quire was started with: a guest starts with it too.
UMASK_BEFORE = _umask_now()

#: Linux has this many resource limits (RLIM_NLIMITS).
RLIMITS = 16


def _initial_limits() -> dict[int, tuple[int, int]]:
    unlimited = WORD
    limits = {}
    for number in range(RLIMITS):
        soft, hard = resource.getrlimit(number)
        limits[number] = (soft & unlimited, hard & unlimited)
    soft, hard = (value & unlimited for value in DESCRIPTOR_LIMITS)
    limits[resource.RLIMIT_NOFILE] = (min(soft, FIRST_OWN), min(hard, FIRST_OWN))
    return limits


def _given() -> set[tuple[int, int]]:
    """Return the identities of what the guest's descriptors name at its start."""
    numbers = (int(name) for name in os.listdir("/proc/thread-self/fd"))
    found = (identity_of(number) for number in numbers if number < FIRST_OWN)
    return {identity for identity in found if identity is not None}


class OfProcess(Protocol):
    """Whatever belongs to a process: one of its threads."""

    @property
    def process(self) -> Process:
        """The process."""
        ...


@dataclass(slots=True)
class GroupState:
    """One process's entry in the kernel's tables: what its threads share. It starts as the host's own."""

    #: Resource limits, soft and hard, by number. Virtual: a guest's limit must not hit Quire itself.
    limits: dict[int, tuple[int, int]] = field(default_factory=_initial_limits)
    dumpable: int = 1
    #: What it registered for of membarrier.
    barriers: int = 0
    #: What new files and directories do not get of their mode. Quire's own process keeps the host's.
    umask: int = field(default_factory=lambda: UMASK_BEFORE)
    #: (device, inode) of all that the guest was started with: Quire has copies of it, but it is no secret.
    given: set[tuple[int, int]] = field(default_factory=_given)
    #: The same of the channels that the guest made itself: pipes, event descriptors, memory files. Survives
    #: dup, unlike numbers.
    channels: set[tuple[int, int]] = field(default_factory=set)
    #: The same of its standard output and error, which a sandboxed guest may write to as well.
    outputs: set[tuple[int, int]] = field(default_factory=set)
    #: The same of its standard input, from which a sandboxed guest may take what others would read.
    inputs: set[tuple[int, int]] = field(default_factory=set)
    #: The same of what it inherited above 2 and would share with others: in a sandbox it may not use them.
    inherited: set[tuple[int, int]] = field(default_factory=set)
    #: Numbers of the descriptors that it has now and was not started with.
    opened: set[int] = field(default_factory=set)
    #: What a sandboxed guest may read, None for all that its user may.
    readable: Readable | None = None

    def __post_init__(self) -> None:
        self._note(self.inputs, 0, os.O_RDONLY)
        self._note(self.outputs, 1, os.O_WRONLY)
        self._note(self.outputs, 2, os.O_WRONLY)

    @staticmethod
    def _note(streams: set[tuple[int, int]], descriptor: int, mode: int) -> None:
        """Note what a standard descriptor names, if it was opened to be used so."""
        identity = identity_of(descriptor)
        if identity is None or is_nameless(descriptor):
            return
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE in (mode, os.O_RDWR):
            streams.add(identity)

    @property
    def descriptor_limit(self) -> int:
        """The number at and above which this process gets no new descriptor."""
        return min(self.limits[resource.RLIMIT_NOFILE][0], FIRST_OWN)

    def own(self, descriptor: int) -> None:
        """Note that the guest made the channel that `descriptor` names."""
        identity = identity_of(descriptor)
        if identity is not None:
            self.channels.add(identity)

    def made(self, descriptor: int) -> bool:
        """Whether `descriptor` names a channel that the guest made."""
        identity = identity_of(descriptor)
        return identity is None or self._made(identity)  # a closed one: the call itself says EBADF

    def _made(self, identity: tuple[int, int]) -> bool:
        # Event channels have one identity, so that an inherited one makes all of them others'.
        return identity in self.channels and identity not in self.inherited

    def owns(self, descriptor: int) -> bool:
        """Whether a sandboxed guest may write to what `descriptor` names."""
        identity = identity_of(descriptor)
        return identity is None or identity in self.outputs or self._made(identity)

    def takes(self, descriptor: int) -> bool:
        """Whether a sandboxed guest may read what `descriptor` names though others may wait for it."""
        identity = identity_of(descriptor)
        return identity is None or identity in self.inputs or self._made(identity)

    def shares(self, descriptor: int) -> bool:
        """Whether a sandboxed guest must leave what `descriptor` names alone: others have it open too."""
        return identity_of(descriptor) in self.inherited


#: PR_GET_TIMERSLACK of a new program, in ns.
TIMER_SLACK = 50_000


@dataclass(slots=True)
class ThreadState:
    """One thread's entry in the kernel's tables."""

    #: prctl(PR_SET_NAME); None until it is set: then the program's file name.
    name: bytes | None = None
    no_new_privileges: int = 0
    timer_slack: int = TIMER_SLACK
    death_signal: int = 0
    nice: int = field(default_factory=lambda: os.getpriority(os.PRIO_PROCESS, 0))
    #: Users and groups, and those that Quire's thread has again when the guest has ended.
    credentials: Credentials = field(default_factory=Credentials.of_this_process)
    credentials_before: Credentials = field(init=False)
    robust_list: tuple[int, int] = (0, 24)
    #: Scheduling policy and priority class of input and output, of which Quire's own thread sees nothing.
    scheduling: int = 0
    io_priority: int = 0
    #: Which memory node it asked for: how, and a set.
    policy: tuple[int, int] = (0, 0)
    keep_capabilities: int = 0
    affinity: int = -1  #: the vCPUs that may run it, a bit each
    clear_child_tid: int = 0

    def __post_init__(self) -> None:
        self.credentials_before = self.credentials


# Kept here and not by the task: both are the system calls' alone.
_GROUPS: WeakKeyDictionary[object, GroupState] = WeakKeyDictionary()
_THREADS: WeakKeyDictionary[object, ThreadState] = WeakKeyDictionary()


def group_state(group: OfProcess) -> GroupState:
    """Return the kernel's state of the process that `group` is, made at its first system call."""
    process = group.process
    state = _GROUPS.get(process)
    if state is None:
        state = _GROUPS[process] = GroupState()
        hard = state.limits[resource.RLIMIT_STACK][1]
        state.limits[resource.RLIMIT_STACK] = (min(process.image.space.stack_limit, hard), hard)
        for number, (soft, hard) in state.limits.items():
            limit_process(process, number, soft, hard)
    return state


def limit_process(process: Process, number: int, soft: int, hard: int) -> None:
    """Have a process keep to a limit, if it is one of those that its memory and its timers look after."""
    space = process.image.space
    if number == resource.RLIMIT_STACK:
        space.stack_limit = soft
    elif number == resource.RLIMIT_AS:
        space.allowance.total = soft
    elif number == resource.RLIMIT_DATA:
        space.allowance.data = soft
    elif number == resource.RLIMIT_CPU:
        process.timers.limit(soft, hard)


def limit_of(group: OfProcess, number: int) -> tuple[int, int]:
    """Return a limit, soft and hard. That of processor time rises by a second with each SIGXCPU."""
    soft, hard = group_state(group).limits[number]
    if number == resource.RLIMIT_CPU:
        soft = group.process.timers.raised(soft)
    return soft, hard


def thread_state(task: OfProcess) -> ThreadState:
    """Return the kernel's state of the thread that `task` is, made at its first system call."""
    state = _THREADS.get(task)
    if state is None:
        group_state(task)  # no call may come before what that takes from the host
        state = _THREADS[task] = ThreadState()
    return state


_OF_DESCRIPTORS = ("given", "channels", "outputs", "inputs", "inherited", "opened")


def copy_group_state(parent: OfProcess, child: OfProcess, *, shares: bool = False) -> None:
    """Have a new process begin with what its parent has; what is of descriptors is the same if it `shares` them."""
    old = group_state(parent)
    made = copy.copy(old)
    if not shares:
        _copy_sets(made)
    made.limits = {number: limit_of(parent, number) for number in old.limits}
    child.process.timers.limit(*made.limits[resource.RLIMIT_CPU])
    _GROUPS[child.process] = made


def part_group_state(group: OfProcess) -> None:
    """Have a process whose descriptors are its own from now on know of them by itself."""
    _copy_sets(group_state(group))


def _copy_sets(state: GroupState) -> None:
    for name in _OF_DESCRIPTORS:
        setattr(state, name, set(getattr(state, name)))


def copy_thread_state(parent: OfProcess, child: OfProcess) -> None:
    """Have a new thread begin with what the one has that made it."""
    made = _THREADS[child] = copy.copy(thread_state(parent))
    made.robust_list, made.clear_child_tid, made.death_signal = (0, 24), 0, 0


def admit(group: ThreadGroup, descriptor: int) -> int:
    """Return a descriptor that the host just made, or close it and return -EMFILE when it is over the limit.

    The host gives out the lowest free number, so this is the number that a native run would get.
    """
    state = group_state(group)
    if descriptor < state.descriptor_limit:
        state.opened.add(descriptor)
        return descriptor
    os.close(descriptor)
    return -errno.EMFILE


@contextmanager
def creating(group: ThreadGroup) -> Iterator[None]:
    """Make files with the guest's umask; only the host applies one right, where a directory has default rights."""
    mask = group_state(group).umask
    before = os.umask(mask) if mask != UMASK_BEFORE else mask
    try:
        yield
    finally:
        if mask != before:
            os.umask(before)
