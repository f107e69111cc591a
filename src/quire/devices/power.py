"""How a guest ends itself: ports that reset a PC, and the registers of ACPI by which it is switched off.

A machine without a keyboard controller answers its ports with ones, but for the command that pulls the reset line.
"""

from collections.abc import Callable
from enum import Enum

from quire.arch.layout import Layout, bit, bits, ignored, reserved

__all__ = [
    "KEYBOARD_COMMAND",
    "RESET_CONTROL",
    "RESET_VALUE",
    "SLEEP_CONTROL",
    "SLEEP_STATUS",
    "Ending",
    "Power",
]

#: Port of the keyboard controller's commands; of the chipset's reset control, and what ACPI is told to write there.
KEYBOARD_COMMAND, RESET_CONTROL, RESET_VALUE = 0x64, 0xCF9, 0x06
#: Ports of the sleep registers (ACPI §4.8.3.7).
SLEEP_CONTROL, SLEEP_STATUS = 0x600, 0x601
_PULL_RESET = 0xFE
_RESET_CPU = 1 << 2  # of the reset control

SLEEP = Layout(
    "SLEEP",
    8,
    "ACPI §4.8.3.7",
    (
        reserved(0),
        ignored(1),
        bits(2, 4, "type", "the state to enter"),
        bit(5, "enable", "enter it"),
        reserved(6, 7),
    ),
)


class Ending(Enum):
    """How a guest ended itself."""

    OFF = "switched off"
    RESET = "reset"


class Power:
    """Calls `ends` with how. One device for all of these ports: offsets are their numbers."""

    def __init__(self, ends: Callable[[Ending], None]) -> None:
        self._ends = ends

    def read(self, offset: int, size: int) -> int:
        """Return 0 for the registers of ACPI and of the chipset, ones for a keyboard controller that is not there."""
        return (1 << 8 * size) - 1 if offset == KEYBOARD_COMMAND else 0

    def write(self, offset: int, value: int, size: int) -> None:
        """End the guest if that is what it asks for."""
        del size
        if offset == SLEEP_CONTROL and SLEEP.get(value, "enable"):
            self._ends(Ending.OFF)
        elif (offset == RESET_CONTROL and value & _RESET_CPU) or (
            offset == KEYBOARD_COMMAND and value == _PULL_RESET
        ):
            self._ends(Ending.RESET)
