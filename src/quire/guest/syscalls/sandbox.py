"""What `--sandbox` refuses:

Every effect outside standard output, standard error and the guest's own channels.
"""

import errno
from typing import TYPE_CHECKING

from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.state import QUIRE_DESCRIPTORS, is_terminal_or_null, state_of
from quire.guest.syscalls.table import Effect, Syscall

if TYPE_CHECKING:
    from quire.guest.process import ProcessGuest

__all__ = ["refusal"]

#: Which argument is the descriptor that a call changes.
_OUTPUT_ARGUMENT = {Effect.OUTPUT: 0, Effect.OUTPUT_1: 1, Effect.OUTPUT_2: 2}


def refusal(process: "ProcessGuest", entry: Syscall, registers: tuple[int, ...]) -> int:
    """Return the errno with which a sandbox refuses a call, or 0.

    The table says what each call may change.
    """
    if entry.effect is Effect.NONE:
        return 0
    if entry.effect is Effect.FILES:
        return errno.EACCES
    if entry.effect is Effect.OTHERS:
        return errno.EPERM
    descriptor = signed32(registers[_OUTPUT_ARGUMENT[entry.effect]])
    if not 0 <= descriptor < QUIRE_DESCRIPTORS or state_of(process).owns(descriptor):
        return 0
    return 0 if is_terminal_or_null(descriptor) else errno.EACCES
