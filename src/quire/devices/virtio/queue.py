"""A split virtqueue, as the device has it: what is available is taken in order, what was used is handed back.

VIRTIO §2.7. Its state is plain values; the two indices are the device's own and are never read from memory.
"""

import struct
from dataclasses import dataclass

from quire.arch.layout import Layout, bit, reserved
from quire.devices.virtio.chain import DESCRIPTOR, Chain, follow
from quire.devices.virtio.driver_error import DeviceMemory, DriverError

__all__ = ["AVAILABLE_FLAGS", "MOST_ENTRIES", "Virtqueue"]

#: Entries that a queue may have.
MOST_ENTRIES = 256

AVAILABLE_FLAGS = Layout(
    "AVAILABLE_FLAGS",
    16,
    "VIRTIO §2.7.6",
    (bit(0, "NO_INTERRUPT", "the driver wants no interrupt for what was used"), reserved(1, 15)),
)
_NO_INTERRUPT = AVAILABLE_FLAGS.mask("NO_INTERRUPT")
_HEAD, _INDEX = struct.Struct("<HH"), struct.Struct("<H")
_USED = struct.Struct("<II")
_WRAPS = 0xFFFF


@dataclass(slots=True)
class Virtqueue:
    """One queue. The three addresses are GPAs: of the descriptors, of the ring of the driver, of the device's."""

    size: int = MOST_ENTRIES
    ready: bool = False
    descriptors: int = 0
    available: int = 0
    used: int = 0
    next_available: int = 0
    next_used: int = 0

    def start(self) -> None:
        """Take what the driver set for valid from now on. Raises DriverError where it breaks VIRTIO §2.7."""
        if not 0 < self.size <= MOST_ENTRIES or self.size & (self.size - 1):
            raise DriverError(f"a queue has {self.size:#x} entries: not a power of two up to {MOST_ENTRIES}")
        for gpa, alignment in ((self.descriptors, DESCRIPTOR.size), (self.available, 2), (self.used, 4)):
            if gpa % alignment:
                raise DriverError(f"a part of a queue is at {gpa:#x}, which is no multiple of {alignment}")
        self.ready = True

    def count(self, memory: DeviceMemory) -> int:
        """Return how many chains the driver has made available. Raises DriverError for more than there can be."""
        index = _HEAD.unpack(memory.read(self.available, _HEAD.size))[1]
        found = int(index - self.next_available & _WRAPS)
        if found > self.size:
            raise DriverError(f"the driver's index jumped by {found}, in a queue of {self.size}")
        return found

    def peek(self, memory: DeviceMemory, *, indirect: bool) -> Chain:
        """Return the next chain that is available, which :meth:`count` says there is. Raises DriverError."""
        at = self.available + _HEAD.size + _INDEX.size * (self.next_available % self.size)
        head = _INDEX.unpack(memory.read(at, _INDEX.size))[0]
        return follow(memory, self.descriptors, self.size, head, indirect=indirect)

    def finish(self, memory: DeviceMemory, chain: Chain, written: int) -> bool:
        """Hand back `chain`, the next one, with so many bytes written; return whether the driver wants an interrupt.

        Raises NoMemory.
        """
        at = self.used + _HEAD.size + _USED.size * (self.next_used % self.size)
        memory.write(at, _USED.pack(chain.head, written))
        self.next_available = self.next_available + 1 & _WRAPS
        self.next_used = self.next_used + 1 & _WRAPS
        memory.write(self.used + _INDEX.size, _INDEX.pack(self.next_used))
        flags = _HEAD.unpack(memory.read(self.available, _HEAD.size))[0]
        return not flags & _NO_INTERRUPT
