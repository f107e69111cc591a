"""Devices at guest-physical addresses: windows of whole pages, found by the page of an access.

A page that nobody has reads as all ones and swallows what is written to it, as an empty bus does.
"""

from typing import NamedTuple, Protocol

from quire.arch import PAGE_SHIFT, PAGE_SIZE
from quire.errors import MisuseError

__all__ = ["Bus", "Device"]


class Device(Protocol):
    """What answers accesses. `offset` is in bytes from where it is attached, `size` 1, 2, 4 or 8 bytes."""

    def read(self, offset: int, size: int) -> int:
        """Return what a load reads."""
        ...

    def write(self, offset: int, value: int, size: int) -> None:
        """Take what a store writes."""
        ...


class _Window(NamedTuple):
    start: int
    device: Device


class Bus:
    """Devices by page. An access that crosses a page is two of the engine's."""

    def __init__(self) -> None:
        self._windows: dict[int, _Window] = {}

    def attach(self, start: int, size: int, device: Device) -> None:
        """Put `device` at GPA `start`, for `size` bytes. Raises MisuseError unless these are free, whole pages."""
        if start % PAGE_SIZE or size % PAGE_SIZE or size <= 0:
            raise MisuseError(
                f"A window of {size:#x} bytes at {start:#x} is not one of whole pages: give multiples of 0x1000"
            )
        pages = range(start >> PAGE_SHIFT, (start + size) >> PAGE_SHIFT)
        taken = next((page for page in pages if page in self._windows), None)
        if taken is not None:
            raise MisuseError(f"GPA {taken << PAGE_SHIFT:#x} has a device already: attach elsewhere")
        self._windows.update(dict.fromkeys(pages, _Window(start, device)))

    def read(self, gpa: int, size: int) -> int:
        """Return what a load of `size` bytes at `gpa` reads."""
        every = (1 << 8 * size) - 1
        window = self._windows.get(gpa >> PAGE_SHIFT)
        return every if window is None else window.device.read(gpa - window.start, size) & every

    def write(self, gpa: int, value: int, size: int) -> None:
        """Store `value` of `size` bytes at `gpa`."""
        window = self._windows.get(gpa >> PAGE_SHIFT)
        if window is not None:
            window.device.write(gpa - window.start, value & ((1 << 8 * size) - 1), size)
