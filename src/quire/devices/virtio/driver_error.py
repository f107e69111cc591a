"""Guest memory as a device reaches it, and what a driver does wrong."""

from typing import Protocol

__all__ = ["DeviceMemory", "DriverError", "NoMemory"]


class DriverError(Exception):
    """The driver broke a rule; the text says which. Never leaves the transport, which needs a reset from then on."""


class NoMemory(DriverError):
    """The driver gave an address at which there is no memory, or not that much of it."""


class DeviceMemory(Protocol):
    """The guest's memory. `gpa` and lengths are whatever a driver wrote: any number from 0 on."""

    def read(self, gpa: int, length: int) -> bytes:
        """Return `length` bytes at `gpa`. Raises NoMemory."""
        ...

    def write(self, gpa: int, data: bytes) -> None:
        """Store `data` at `gpa`: all of it, or nothing. Raises NoMemory."""
        ...
