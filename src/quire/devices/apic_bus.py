"""How interrupts travel between I/O APICs and local APICs: a message, and who takes it (SDM 3A §10.6.2, §10.12.10)."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from quire.arch import LOW32
from quire.arch.apic import DeliveryMode, Shorthand

__all__ = ["ApicBus", "Interrupt", "Receiver", "widened"]

_EVERYBODY, _EVERYBODY_BY_BYTE = LOW32, 0xFF


def widened(destination: int) -> int:
    """Return a destination that a sender gives in eight bits: all ones are everybody (SDM 3A §10.6.2)."""
    return _EVERYBODY if destination == _EVERYBODY_BY_BYTE else destination


class Interrupt(NamedTuple):
    """A message. `destination` is an APIC's ID, or logical, in 32 bits; `level` says that an EOI is to be told."""

    vector: int
    mode: DeliveryMode
    destination: int
    logical: bool = False
    level: bool = False


class Receiver(Protocol):
    """A local APIC, as those see it that send to it."""

    number: int

    @property
    def priority(self) -> int:
        """Its processor priority."""
        ...

    def matches(self, destination: int) -> bool:
        """Whether it is one of a logical destination."""
        ...

    def take(self, interrupt: Interrupt) -> None:
        """Do what the message asks for."""
        ...


class EndListener(Protocol):
    """Who is told of the end of a level-triggered interrupt."""

    def end(self, vector: int) -> None:
        """The service of `vector` has ended."""
        ...


class ApicBus:
    """Of one machine."""

    def __init__(self) -> None:
        self.receivers: list[Receiver] = []  #: local APICs, by number
        self.listeners: list[EndListener] = []  #: I/O APICs
        self.sent = 0  #: messages that were taken
        self.heard: Callable[[], None] = lambda: (
            None
        )  #: called when a vCPU has something to take that it had not

    def send(
        self, interrupt: Interrupt, sender: Receiver | None = None, shorthand: int = Shorthand.NONE
    ) -> None:
        """Deliver `interrupt` to all that it is for; of the lowest priority, to one of them."""
        targets = self._targets(interrupt, sender, shorthand)
        if interrupt.mode is DeliveryMode.LOWEST and targets:
            targets = [min(targets, key=lambda one: (one.priority, one.number))]
        for one in targets:
            self.sent += 1
            one.take(interrupt)
        if targets:
            self.heard()

    def end(self, vector: int) -> None:
        """The service of a level-triggered interrupt has ended."""
        for one in self.listeners:
            one.end(vector)

    def _targets(self, interrupt: Interrupt, sender: Receiver | None, shorthand: int) -> list[Receiver]:
        if shorthand == Shorthand.SELF:
            return [one for one in self.receivers if one is sender]
        if shorthand == Shorthand.OTHERS:
            return [one for one in self.receivers if one is not sender]
        destination = interrupt.destination
        if shorthand == Shorthand.ALL or destination == _EVERYBODY:
            return list(self.receivers)
        if interrupt.logical:
            return [one for one in self.receivers if one.matches(destination)]
        return [one for one in self.receivers if one.number == destination]
