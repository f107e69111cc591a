"""What every kind of kernel image is to whoever boots one: what it places in memory, and how the first vCPU starts.

Each kind is a file of its own (linux.py, vmlinux.py, multiboot.py, flat.py); images.py chooses by content. What a file
says is checked before it is used: what does not do is LaunchError with the value, the bound and the next step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from quire.errors import CANNOT_SET_UP
from quire.guest.load.launch import LaunchError

__all__ = ["BIOS", "HIGH", "LOW_END", "Given", "Image", "Initrd", "Start", "Write", "ranges_of", "refusal"]

#: What is not ordinary memory below 1 MiB: from the extended BIOS data area to the end of the BIOS.
LOW_END, BIOS, HIGH = 0x9FC00, 0xE0000, 0x100000
_VIDEO = 0xA0000
_RAM, _RESERVED = 1, 2

#: Writes bytes at a guest-physical address.
Write = Callable[[int, bytes], None]


class Initrd(NamedTuple):
    """An initial RAM disk: its file's name without directories, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Given:
    """What the machine gives an image: `memory` in bytes, command line, initial RAM disks, where ACPI's RSDP is.

    Raises LaunchError for a command line with a NUL.
    """

    memory: int
    command_line: str
    initrds: tuple[Initrd, ...]
    rsdp: int

    def __post_init__(self) -> None:
        if "\0" in self.command_line:
            raise refusal(
                f"The command line {self.command_line!r} has a NUL, which would end it: append none"
            )


@dataclass(frozen=True, slots=True)
class Start:
    """How the first vCPU starts: these registers, all others 0; in 64-bit mode, or `protected`: in 32-bit, unpaged."""

    registers: dict[str, int]
    protected: bool = False


class Image(Protocol):
    """A checked file that can be booted."""

    @property
    def usual(self) -> str:
        """The command line where nobody gives one."""
        ...

    def place(self, write: Write, given: Given) -> Start:
        """Write all that the kernel finds in memory. Raises LaunchError for what does not fit."""
        ...


def refusal(message: str) -> LaunchError:
    """Return the error that an image cannot be booted."""
    return LaunchError(CANNOT_SET_UP, message)


def ranges_of(memory: int) -> tuple[tuple[int, int, int], ...]:
    """Return what is where in `memory` bytes: start, length, and type as the BIOS numbers it (1 RAM, 2 reserved)."""
    return (
        (0, LOW_END, _RAM),
        (LOW_END, _VIDEO - LOW_END, _RESERVED),
        (BIOS, HIGH - BIOS, _RESERVED),
        (HIGH, memory - HIGH, _RAM),
    )
