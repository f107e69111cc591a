"""Where the virtio devices of a PC are: a page and a pin each, and how ACPI tells of them.

Devices work between turns of the vCPUs; see `quire.devices.virtio`.
"""

from collections.abc import Callable, Sequence

from quire.devices import Bus, IoApic
from quire.devices.virtio import DeviceMemory, MmioTransport, VirtioDevice
from quire.devices.virtio.registers import PAGE
from quire.errors import MisuseError
from quire.guest.boot import aml

__all__ = ["FIRST_PAGE", "FIRST_PIN", "MOST_DEVICES", "MOST_DISKS", "VirtioSlots"]

#: GPA of the first device, and its pin; the others follow.
FIRST_PAGE, FIRST_PIN = 0xD0000000, 5
#: How many pins there are for them.
MOST_DEVICES = 19
#: Of them disks: a source of entropy, a balloon and a console are always there.
MOST_DISKS = MOST_DEVICES - 3
_ACPI_ID = "LNRO0005"


class VirtioSlots:
    """The `devices` on `bus`, in order. `asked` is called when one has work. Raises MisuseError for too many."""

    def __init__(
        self,
        bus: Bus,
        io_apic: IoApic,
        memory: DeviceMemory,
        devices: Sequence[VirtioDevice],
        asked: Callable[[], None],
    ) -> None:
        if len(devices) > MOST_DEVICES:
            raise MisuseError(
                f"{len(devices)} virtio devices are more than the pins for them: give at most {MOST_DEVICES}"
            )
        self.transports = [MmioTransport(one, memory) for one in devices]
        for number, one in enumerate(self.transports):
            bus.attach(FIRST_PAGE + number * PAGE, PAGE, one)
            one.changed = io_apic.attach(FIRST_PIN + number, one.interrupts)
            one.asked = asked

    @property
    def has_work(self) -> bool:
        """Whether a device has something to do."""
        return any(one.has_work for one in self.transports)

    def work(self) -> None:
        """Let each device do what it was asked for, for a while."""
        for one in self.transports:
            one.work()

    def described(self) -> list[bytes]:
        """Return each device in ACPI Machine Language."""
        return [
            aml.device(
                f"VR{number:02X}",
                aml.name("_HID", aml.text(_ACPI_ID)),
                aml.name("_UID", aml.integer(number)),
                aml.name("_CRS", aml.resources(*self._resources(number))),
            )
            for number in range(len(self.transports))
        ]

    def _resources(self, number: int) -> tuple[bytes, bytes]:
        window = aml.memory_window(FIRST_PAGE + number * PAGE, PAGE)
        return window, aml.interrupt(FIRST_PIN + number, edge=False)
