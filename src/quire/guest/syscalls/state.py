"""What the kernel remembers of one process beyond its memory and signals:

Limits, its name, its own channels.
"""

import errno
import os
import resource
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from quire.guest.syscalls.host import identity_of

if TYPE_CHECKING:
    from quire.guest.kernel.process import ProcessGuest

__all__ = ["QUIRE_DESCRIPTORS", "RLIMITS", "KernelState", "admit", "is_terminal_or_null", "state_of"]

#: Quire's own descriptors live at this number and above; no guest may name one.
QUIRE_DESCRIPTORS = 900


#: Linux has this many resource limits (RLIM_NLIMITS).
RLIMITS = 16


def _initial_limits() -> dict[int, tuple[int, int]]:
    unlimited = (1 << 64) - 1
    limits = {}
    for number in range(RLIMITS):
        soft, hard = resource.getrlimit(number)
        limits[number] = (soft & unlimited, hard & unlimited)
    soft, hard = limits[resource.RLIMIT_NOFILE]
    limits[resource.RLIMIT_NOFILE] = (min(soft, QUIRE_DESCRIPTORS), min(hard, QUIRE_DESCRIPTORS))
    return limits


@dataclass(slots=True)
class KernelState:
    """One process's entry in the kernel's tables. All of it starts as the host's own at the first call."""

    #: Resource limits, soft and hard, by number. Virtual: a guest's limit must not hit Quire itself.
    limits: dict[int, tuple[int, int]] = field(default_factory=_initial_limits)
    #: prctl(PR_SET_NAME); None until it is set: then the program's file name.
    name: bytes | None = None
    dumpable: int = 1
    no_new_privileges: int = 0
    robust_list: tuple[int, int] = (0, 24)
    clear_child_tid: int = 0
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


_STATES: "WeakKeyDictionary[ProcessGuest, KernelState]" = WeakKeyDictionary()


def state_of(process: "ProcessGuest") -> KernelState:
    """Return the kernel's state of `process`, made at its first system call."""
    state = _STATES.get(process)
    if state is None:
        state = _STATES[process] = KernelState()
        hard = state.limits[resource.RLIMIT_STACK][1]
        state.limits[resource.RLIMIT_STACK] = (min(process.space.stack_limit, hard), hard)
    return state


def admit(process: "ProcessGuest", descriptor: int) -> int:
    """Return a descriptor that the host just made, or close it and return -EMFILE when it is over the limit.

    The host gives out the lowest free number, so this is the number that a native run would get.
    """
    if descriptor < state_of(process).descriptor_limit:
        return descriptor
    os.close(descriptor)
    return -errno.EMFILE


def is_terminal_or_null(descriptor: int) -> bool:
    """Whether a descriptor names /dev/null, /dev/zero, /dev/full or /dev/tty: harmless to write to."""
    status = os.fstat(descriptor)
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) in {(1, 3), (1, 5), (1, 7), (5, 0)}
