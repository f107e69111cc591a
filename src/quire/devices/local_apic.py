"""Local APICs of one guest's vCPUs, in x2APIC mode: they send each other interrupts, and take them in order.

Modelled: ID, EOI, spurious vector, interrupt command, self IPI; physical destinations and shorthands; the priority of a
vector in service. Not modelled: timer, logical destinations, INIT and SIPI (vCPUs of a bare guest start together).
Writing what is not there is #GP, as the manual has it; a mode that is not modelled is MisuseError, so that no interrupt
is lost in silence.
"""

from quire.arch import LOW32, X2APIC_ICR, DeliveryMode, Shorthand, Vector, X2Apic
from quire.errors import MisuseError
from quire.vcpu import Event

__all__ = ["LocalApic"]

_GP = Event.exception(Vector.GP, 0)
_EVERYBODY = LOW32
_FIRST_LEGAL = 16  # vectors below are exceptions (SDM 3A §10.5.2)
_CLASS = 0xF0


class LocalApic:
    """The APIC of vCPU `number`; `peers` are those of all vCPUs, its own among them, by number."""

    def __init__(self, number: int, peers: "list[LocalApic]") -> None:
        self.number = number
        self._peers = peers
        peers.append(self)
        self._requested: set[int] = set()
        self._in_service: list[int] = []
        self._spurious = 0xFF
        self.nmi = False  #: a non-maskable interrupt waits
        self.sent = 0  #: interrupts sent so far

    def read(self, number: int) -> int | Event:
        """Return what RDMSR of register `number` gives, or the #GP."""
        if number == X2Apic.ID:
            return self.number
        return self._spurious if number == X2Apic.SPURIOUS else _GP

    def write(self, number: int, value: int) -> Event | None:
        """Do what WRMSR of register `number` does; return the #GP for one that cannot be written so."""
        if number == X2Apic.EOI:
            if value:
                return _GP
            if self._in_service:
                self._in_service.pop()
        elif number == X2Apic.SPURIOUS:
            self._spurious = value & LOW32
        elif number == X2Apic.SELF_IPI:
            if value >> 8:
                return _GP
            self._request(value)
        elif number == X2Apic.ICR:
            return self._command(value)
        else:
            return _GP
        return None

    def next_vector(self) -> int | None:
        """Return the vector that is to be delivered next, None if there is none of higher class than one in service."""
        highest = max(self._requested, default=0)
        serving = self._in_service[-1] if self._in_service else 0
        return highest if highest & _CLASS > serving & _CLASS else None

    def accept(self, vector: int) -> None:
        """The vCPU takes `vector`: it is in service until the guest writes EOI (SDM 3A §10.8.4)."""
        self._requested.discard(vector)
        self._in_service.append(vector)

    def _command(self, value: int) -> Event | None:
        said = X2APIC_ICR.decode(value)
        if value & X2APIC_ICR.reserved_mask:
            return _GP
        if said["logical"] or said["mode"] not in tuple(DeliveryMode):
            raise MisuseError(
                f"Interrupt command {value:#x} asks for delivery mode {said['mode']:#x}"
                f"{', a logical destination' if said['logical'] else ''}: fixed and NMI to physical ones are modelled"
            )
        for peer in self._targets(said["shorthand"], said["destination"]):
            self.sent += 1
            if said["mode"] == DeliveryMode.NMI:
                peer.nmi = True
            else:
                peer._request(said["vector"])
        return None

    def _targets(self, shorthand: int, destination: int) -> "list[LocalApic]":
        if shorthand == Shorthand.SELF:
            return [self]
        if shorthand == Shorthand.OTHERS:
            return [peer for peer in self._peers if peer is not self]
        if shorthand == Shorthand.ALL or destination == _EVERYBODY:
            return list(self._peers)
        return [peer for peer in self._peers if peer.number == destination]

    def _request(self, vector: int) -> None:
        if vector >= _FIRST_LEGAL:  # an illegal vector is an APIC error, which nobody listens to
            self._requested.add(vector)
