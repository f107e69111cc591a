"""I/O ports of a machine guest: a table of devices by port number, and the two that every one has.

A port that nobody has reads as all ones and swallows what is written to it, as an empty bus does.
"""

from dataclasses import dataclass
from typing import Protocol

from quire.devices.bus import Device
from quire.errors import MisuseError

__all__ = ["DEBUG_PORT", "EXIT_PORT", "DebugConsole", "ExitPort", "Port", "Ports"]

#: Where the debug console and the exit port are, as on other emulators.
DEBUG_PORT, EXIT_PORT = 0xE9, 0xF4


class Port(Protocol):
    """A device behind one port. `size` is 1, 2 or 4 bytes."""

    def read(self, size: int) -> int:
        """Return what IN reads."""
        ...

    def write(self, value: int, size: int) -> None:
        """Take what OUT writes."""
        ...


@dataclass(frozen=True, slots=True)
class _Register:
    """One port of a device that has several: `offset` is what the device knows it by."""

    device: Device
    offset: int

    def read(self, size: int) -> int:
        return self.device.read(self.offset, size)

    def write(self, value: int, size: int) -> None:
        self.device.write(self.offset, value, size)


class DebugConsole:
    """Collects each byte written; reads as the port's number, which tells a guest that it is there."""

    def __init__(self) -> None:
        self.output = bytearray()

    def read(self, size: int) -> int:
        """Return the port's number."""
        del size
        return DEBUG_PORT

    def write(self, value: int, size: int) -> None:
        """Append `size` bytes, low one first."""
        self.output += value.to_bytes(size, "little")


class ExitPort:
    """A write ends the guest with the written value as its status."""

    def __init__(self) -> None:
        self.status: int | None = None

    def read(self, size: int) -> int:
        """Return 0."""
        del size
        return 0

    def write(self, value: int, size: int) -> None:
        """Note the status; the machine stops before its next instruction."""
        del size
        self.status = value


class Ports:
    """Devices by port number. A device gets whole accesses: one that is wider than a port is not split."""

    def __init__(self) -> None:
        self._devices: dict[int, Port] = {}

    def attach(self, number: int, device: Port) -> None:
        """Put `device` at port `number`. Raises MisuseError if that is no port or taken."""
        if not 0 <= number <= 0xFFFF:
            raise MisuseError(f"Port {number:#x} does not exist: give one from 0x0 to 0xffff")
        if number in self._devices:
            raise MisuseError(f"Port {number:#x} has a device already: attach to another")
        self._devices[number] = device

    def attach_several(self, first: int, count: int, device: Device, *, offset: int = 0) -> None:
        """Put `device` at `count` ports from `first` on, which it knows by their distance, and `offset`."""
        for number in range(count):
            self.attach(first + number, _Register(device, offset + number))

    def read(self, number: int, size: int) -> int:
        """Return what IN of `size` bytes reads from port `number`."""
        every = (1 << 8 * size) - 1
        device = self._devices.get(number)
        return every if device is None else device.read(size) & every

    def write(self, number: int, value: int, size: int) -> None:
        """Write `value` of `size` bytes to port `number`."""
        device = self._devices.get(number)
        if device is not None:
            device.write(value & ((1 << 8 * size) - 1), size)
