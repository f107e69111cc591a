"""Results of a system call that are not numbers."""

from enum import Enum

__all__ = ["NO_RESULT", "RESTART", "Result", "Special"]


class Special(Enum):
    """What the process does with the result register when the call has no number to put there."""

    #: The registers are final already: rt_sigreturn restored them, exit needs none.
    NO_RESULT = "no result"
    #: A signal interrupted a call that Linux restarts (ERESTARTSYS): the process restarts it or answers
    #: EINTR, as SA_RESTART of the handler that runs says.
    RESTART = "restart"


NO_RESULT = Special.NO_RESULT
RESTART = Special.RESTART

#: What a system call returns: a number for RAX (negative: -errno) or a :class:`Special`.
Result = int | Special
