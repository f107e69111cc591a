"""What happens after a VM exit, as a handler says it: the guest is resumed, skips, gets an event, or is stopped.

A handler never moves RIP past its instruction: whoever runs it does, in one place, by :data:`SKIP`.
"""

from dataclasses import dataclass
from enum import Enum

from quire.vcpu import Event, Exit

__all__ = ["RESUME", "SKIP", "Inject", "Next", "StopGuest"]


class _Go(Enum):
    RESUME = "resume"
    SKIP = "skip"


#: The guest goes on where it is: the instruction that exited is executed again, what kept it is mended.
RESUME = _Go.RESUME
#: The guest goes on behind the instruction that exited, which has been emulated.
SKIP = _Go.SKIP


@dataclass(frozen=True, slots=True)
class Inject:
    """The next VM entry delivers `event`; RIP stays at the instruction."""

    event: Event


@dataclass(frozen=True, slots=True)
class StopGuest:
    """Nothing mends `exit`: the guest cannot go on."""

    exit: Exit


Next = _Go | Inject | StopGuest
