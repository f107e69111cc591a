"""What `--sandbox` refuses:

Every effect outside standard output, standard error and the guest's own channels.
"""

import errno
from enum import Enum

from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.state import QUIRE_DESCRIPTORS, group_state, is_terminal_or_null

__all__ = ["Effect", "refusal"]


class Effect(Enum):
    """What a call may change outside the guest: what `--sandbox` refuses."""

    #: Nothing, or the handler itself looks closer (open's flags, kill's target).
    NONE = "none"
    #: Names and attributes in the file system: EACCES in a sandbox.
    FILES = "files"
    #: What the descriptor in argument 0 (or 1, or 2) names: EACCES unless the guest may write there.
    OUTPUT = "output"
    OUTPUT_1 = "output of argument 1"
    OUTPUT_2 = "output of argument 2"
    #: The network and other processes: EPERM in a sandbox.
    OTHERS = "others"


#: Which argument is the descriptor that a call changes.
_OUTPUT_ARGUMENT = {Effect.OUTPUT: 0, Effect.OUTPUT_1: 1, Effect.OUTPUT_2: 2}


def refusal(group: ThreadGroup, effect: Effect, registers: tuple[int, ...]) -> int:
    """Return the errno with which a sandbox refuses a call, or 0.

    The table says what each call may change.
    """
    state = group_state(group)  # made now: a guest's own files may not be 1 and 2 before it knows its outputs
    if effect is Effect.NONE:
        return 0
    if effect is Effect.FILES:
        return errno.EACCES
    if effect is Effect.OTHERS:
        return errno.EPERM
    descriptor = signed32(registers[_OUTPUT_ARGUMENT[effect]])
    if not 0 <= descriptor < QUIRE_DESCRIPTORS or state.owns(descriptor):
        return 0
    return 0 if is_terminal_or_null(descriptor) else errno.EACCES
