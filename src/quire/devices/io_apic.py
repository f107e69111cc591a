"""The I/O APIC: pins of devices, and which interrupt each becomes (82093AA §3).

The level of a pin is its devices' to say, and is asked for when one of them says that it may have changed; nothing of
it is stored but what an edge has to be seen against.
"""

from collections.abc import Callable

from quire.arch import LOW32
from quire.arch.apic import DeliveryMode
from quire.arch.layout import Layout, bit, bits, reserved
from quire.devices.apic_bus import ApicBus, Interrupt, widened

__all__ = ["IO_APIC_PAGE", "PINS", "REDIRECTION", "IoApic"]

#: Where its page is (82093AA §3.1).
IO_APIC_PAGE = 0xFEC00000
#: How many pins there are.
PINS = 24
_SELECT, _WINDOW, _EOI = 0x00, 0x10, 0x40
_ID, _VERSION, _ARBITRATION, _FIRST = 0x00, 0x01, 0x02, 0x10
_VERSION_VALUE = (PINS - 1) << 16 | 0x20

REDIRECTION = Layout(
    "REDIRECTION",
    64,
    "82093AA §3.2.4",
    (
        bits(0, 7, "vector", "vector of the interrupt"),
        bits(8, 10, "mode", "delivery mode"),
        bit(11, "logical", "the destination is a logical one"),
        bit(12, "status", "a delivery is under way; read-only"),
        bit(13, "low", "the pin is active low"),
        bit(14, "remote_irr", "a level interrupt is in service; read-only"),
        bit(15, "level", "the pin is level-triggered"),
        bit(16, "masked", "nothing is delivered"),
        reserved(17, 55),
        bits(56, 63, "destination", "APIC ID, or a logical destination"),
    ),
)
_WRITABLE = REDIRECTION.mask("vector", "mode", "logical", "low", "level", "masked", "destination")
_REMOTE, _LEVEL, _MASKED = (REDIRECTION.mask(one) for one in ("remote_irr", "level", "masked"))


class IoApic:
    """Of one machine, whose local APICs are on `bus`."""

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        bus.listeners.append(self)
        self._select = self._id = 0
        self._entries = [_MASKED] * PINS
        self._sources: list[list[Callable[[], bool]]] = [[] for _ in range(PINS)]
        self._seen = [False] * PINS  # levels, as an edge is told by

    def attach(self, pin: int, level: Callable[[], bool]) -> Callable[[], None]:
        """Have `level` say, with others, whether `pin` is up; return what is to be called when it may have changed."""
        self._sources[pin].append(level)
        return lambda: self._sample(pin)

    def read(self, offset: int, size: int) -> int:
        """Return what a load from its page reads."""
        del size
        if offset == _SELECT:
            return self._select
        if offset != _WINDOW:
            return 0
        if self._select in (_ID, _ARBITRATION):
            return self._id << 24
        if self._select == _VERSION:
            return _VERSION_VALUE
        number, high = divmod(self._select - _FIRST, 2)
        return self._entries[number] >> 32 * high & LOW32 if 0 <= number < PINS else 0

    def write(self, offset: int, value: int, size: int) -> None:
        """Take what a store to its page writes."""
        del size
        if offset == _SELECT:
            self._select = value & 0xFF
        elif offset == _EOI:
            self.end(value & 0xFF)
        elif offset == _WINDOW and self._select == _ID:
            self._id = value >> 24 & 0xF
        elif offset == _WINDOW:
            number, high = divmod(self._select - _FIRST, 2)
            if 0 <= number < PINS:
                self._write_entry(number, 32 * high, value)

    def end(self, vector: int) -> None:
        """The service of `vector` has ended: pins that are still up ask again."""
        for pin, entry in enumerate(self._entries):
            if entry & _REMOTE and REDIRECTION.get(entry, "vector") == vector:
                self._entries[pin] = entry & ~_REMOTE
                self._sample(pin)

    def _write_entry(self, pin: int, shift: int, value: int) -> None:
        writable = _WRITABLE & LOW32 << shift
        entry = self._entries[pin] & ~writable | value << shift & writable
        if not entry & _LEVEL:
            entry &= ~_REMOTE
        self._entries[pin] = entry
        if entry & _LEVEL:
            self._sample(pin)

    def _sample(self, pin: int) -> None:
        """Look at the devices of `pin`, and send what follows from its level."""
        up = any([level() for level in self._sources[pin]])
        rises, self._seen[pin] = up and not self._seen[pin], up
        entry = self._entries[pin]
        level = bool(entry & _LEVEL)
        if entry & _MASKED or (not rises and not level) or not up or entry & _REMOTE:
            return
        if level:
            self._entries[pin] = entry | _REMOTE
        said = REDIRECTION.decode(entry)
        if said["mode"] in tuple(DeliveryMode):
            mode = DeliveryMode(said["mode"])
            to = widened(said["destination"])
            self._bus.send(Interrupt(said["vector"], mode, to, bool(said["logical"]), level))
