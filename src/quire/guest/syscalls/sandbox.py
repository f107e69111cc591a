"""What `--sandbox` answers in the place of the host: whatever the table of effects does not allow."""

import errno
from collections.abc import Callable, Sequence

from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import PARTS, Effect
from quire.guest.syscalls.kinds import AT_FDCWD, Kind, signed32
from quire.guest.syscalls.procfs import link_target
from quire.guest.syscalls.state import group_state
from quire.own_descriptors import FIRST_OWN

__all__ = ["check_names", "verdict"]


def verdict(group: ThreadGroup, effect: Effect, registers: tuple[int, ...]) -> int | None:
    """Return what a sandbox answers to a call with this effect, or None when the call may be made."""
    group_state(group)  # made now: a guest's own files may not be 1 and 2 before it knows its outputs
    fixed = _FIXED.get(effect, _ASK)
    if fixed is not _ASK:
        return fixed
    for part, argument in PARTS[effect]:
        descriptor = signed32(registers[argument])
        allowed, number = _BY_DESCRIPTOR[part]
        # Of what is no descriptor of the guest's the call itself says EBADF.
        if 0 <= descriptor < FIRST_OWN and not allowed(group, descriptor):
            return -number
    return None


def check_names(group: ThreadGroup, kinds: Sequence[Kind], registers: tuple[int, ...]) -> None:
    """Raise EACCES when a call names a file that `--allow-read` leaves outside."""
    readable = group_state(group).readable
    if readable is None:
        return
    directory = AT_FDCWD
    for kind, register in zip(kinds, registers, strict=False):
        directory = kind.directory_of(register, directory)
        path = kind.file_of(group, register, directory)
        if path is not None:
            readable.check_name(directory, link_target(group, path) or path)


_ASK = 1
_FIXED: dict[Effect, int | None] = {
    Effect.GUEST: None,
    Effect.PLAYED: None,
    Effect.READS: None,  # by path: check_names
    Effect.CHOOSES: None,
    Effect.FILES: -errno.EACCES,
    Effect.OTHERS: -errno.EPERM,
    Effect.UNKNOWN: -errno.EPERM,
    Effect.LOCKS: 0,
    Effect.HINT: 0,
}


def _may_write(group: ThreadGroup, descriptor: int) -> bool:
    return group_state(group).owns(descriptor) or host.is_terminal_or_null(descriptor)


def _is_private(group: ThreadGroup, descriptor: int) -> bool:
    return not group_state(group).shares(descriptor)


def _is_channel(group: ThreadGroup, descriptor: int) -> bool:
    return group_state(group).made(descriptor)


_Allowed = Callable[[ThreadGroup, int], bool]
_BY_DESCRIPTOR: dict[Effect, tuple[_Allowed, int]] = {
    Effect.INPUT: (_is_private, errno.EACCES),
    Effect.DESCRIPTION: (_is_private, errno.EPERM),
    Effect.CHANNEL: (_is_channel, errno.EPERM),
    Effect.OUTPUT: (_may_write, errno.EACCES),
}
