"""What `--sandbox` refuses:

Every effect outside standard output, standard error and the guest's own channels.
"""

import errno
from enum import Enum
from typing import TYPE_CHECKING

from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.state import QUIRE_DESCRIPTORS, is_terminal_or_null, state_of

if TYPE_CHECKING:
    from quire.guest.kernel.process import ProcessGuest

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


def refusal(process: "ProcessGuest", effect: Effect, registers: tuple[int, ...]) -> int:
    """Return the errno with which a sandbox refuses a call, or 0.

    The table says what each call may change.
    """
    if effect is Effect.NONE:
        return 0
    if effect is Effect.FILES:
        return errno.EACCES
    if effect is Effect.OTHERS:
        return errno.EPERM
    descriptor = signed32(registers[_OUTPUT_ARGUMENT[effect]])
    if not 0 <= descriptor < QUIRE_DESCRIPTORS or state_of(process).owns(descriptor):
        return 0
    return 0 if is_terminal_or_null(descriptor) else errno.EACCES
