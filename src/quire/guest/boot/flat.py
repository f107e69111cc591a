"""Flat binaries: loaded at an address that the caller says, and entered there in 64-bit mode.

The state is that of long_mode.py: memory mapped at its own addresses up to 4 GiB, interrupts off, no IDT. RDI has the
guest's memory in bytes, RSP the end of a small stack. There is no convention for more: neither a command line nor an
initial RAM disk.
"""

from quire.guest.boot.image import BIOS, HIGH, Given, Start, Write, refusal
from quire.guest.boot.zero_page import STACK

__all__ = ["FlatImage"]

#: The first address that the tables and the stack of the start leave free.
_FIRST_FREE = 0x10000


class FlatImage:
    """The flat binary `data`, called `path` in messages, for guest-physical address `at`.

    Raises LaunchError for an empty one, and where it would lie on the tables of the start or of ACPI.
    """

    usual = ""

    def __init__(self, data: bytes, path: str, at: int) -> None:
        self._data, self._path, self._at = data, path, at
        if not data:
            raise refusal(f"{path} is empty: give a flat binary with --flat")
        end = at + len(data)
        if at < _FIRST_FREE:
            raise refusal(f"{path} cannot go to {at:#x}: give --flat {_FIRST_FREE:#x} or more")
        if at < HIGH and end > BIOS:
            raise refusal(
                f"{path} would lie at {at:#x} to {end:#x}, on ACPI tables at {BIOS:#x}: give --flat {HIGH:#x} or more"
            )

    def place(self, write: Write, given: Given) -> Start:
        """Write the binary. Raises LaunchError where it does not fit, and for what it would never see."""
        end = self._at + len(self._data)
        if end > given.memory:
            raise refusal(
                f"{self._path} would end at {end:#x}, memory at {given.memory:#x}: give a lower --flat or more --memory"
            )
        if given.initrds or given.command_line:
            raise refusal(
                f"{self._path} is a flat binary, which gets nothing: leave --initrd and --append out"
            )
        write(self._at, self._data)
        return Start({"rip": self._at, "rdi": given.memory, "rsp": STACK})
