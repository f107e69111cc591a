"""What happens after a VM exit, as a handler says it: the guest is resumed, skips, gets an event, or is stopped.

A handler never moves RIP past its instruction: whoever runs it does, in one place, when told to skip.
"""

from dataclasses import dataclass

from quire.vcpu import Event, Exit

__all__ = ["RESUME", "SKIP", "Inject", "Next", "Resume", "Skip", "StopGuest"]


@dataclass(frozen=True, slots=True)
class Resume:
    """The guest goes on where it is: the instruction that exited is executed again, what kept it is mended."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The guest goes on behind the instruction that exited, which has been emulated.

    `length` is that of an instruction whose exit has none, in bytes; by default what the exit says.
    """

    length: int | None = None


@dataclass(frozen=True, slots=True)
class Inject:
    """The next VM entry delivers `event`; RIP stays at the instruction."""

    event: Event


@dataclass(frozen=True, slots=True)
class StopGuest:
    """Nothing mends `exit`: the guest cannot go on."""

    exit: Exit


RESUME, SKIP = Resume(), Skip()

Next = Resume | Skip | Inject | StopGuest
