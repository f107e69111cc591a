"""A chain of descriptors: the buffers that a driver hands over, first those to read, then those to write.

VIRTIO §2.7.4 and §2.7.5. Each descriptor is read once. A chain has no more buffers than its queue has entries, those
in an indirect table included, and no more than :data:`MOST_BYTES` in all.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quire.arch.layout import Layout, bit, reserved
from quire.devices.virtio.driver_error import DeviceMemory, DriverError

__all__ = ["DESCRIPTOR", "DESCRIPTOR_FLAGS", "MOST_BYTES", "Buffer", "Chain", "follow"]

#: Address and length in bytes, flags, the next descriptor.
DESCRIPTOR = struct.Struct("<QIHH")
#: Bytes that one chain may have, more than any request of a driver that keeps to what its device offers.
MOST_BYTES = 16 << 20

DESCRIPTOR_FLAGS = Layout(
    "DESCRIPTOR_FLAGS",
    16,
    "VIRTIO §2.7.5",
    (
        bit(0, "NEXT", "another descriptor follows"),
        bit(1, "WRITE", "the device writes this buffer"),
        bit(2, "INDIRECT", "the buffer is a table of descriptors"),
        reserved(3, 15),
    ),
)
_NEXT, _WRITE, _INDIRECT = (DESCRIPTOR_FLAGS.mask(one) for one in ("NEXT", "WRITE", "INDIRECT"))


class Buffer(NamedTuple):
    """A piece of guest memory; `length` is in bytes."""

    gpa: int
    length: int


class Chain:
    """One request. Both halves are read and written as if each were in one piece: how it is cut says nothing."""

    def __init__(
        self, memory: DeviceMemory, head: int, readable: Sequence[Buffer], writable: Sequence[Buffer]
    ) -> None:
        self._memory, self._readable, self._writable = memory, readable, writable
        self.head = head  #: number of its first descriptor
        self.readable_bytes = sum(one.length for one in readable)
        self.writable_bytes = sum(one.length for one in writable)

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes that the driver gives, from byte `start` on, or as many as there are. NoMemory."""
        found = _cut(self._readable, start, length)
        return b"".join(self._memory.read(one.gpa, one.length) for one in found)

    def write(self, start: int, data: bytes) -> None:
        """Store `data` from byte `start` of what the driver wants filled, as far as it reaches. Raises NoMemory."""
        at = 0
        for one in _cut(self._writable, start, len(data)):
            self._memory.write(one.gpa, data[at : at + one.length])
            at += one.length


def follow(memory: DeviceMemory, table: int, size: int, head: int, *, indirect: bool) -> Chain:
    """Return the chain that begins with descriptor `head` of the `size` at GPA `table`.

    `indirect` says whether the driver may use indirect tables. Raises DriverError for a chain that breaks a rule.
    """
    readable: list[Buffer] = []
    writable: list[Buffer] = []
    where, entries, number, inside, total = table, size, head, False, 0
    while len(readable) + len(writable) < size:
        if number >= entries:
            raise DriverError(f"descriptor {number} lies beyond a table of {entries}")
        gpa, length, flags, following = DESCRIPTOR.unpack(memory.read(where + DESCRIPTOR.size * number, 16))
        if flags & _INDIRECT:
            if inside or not indirect:
                raise DriverError(f"descriptor {number} is indirect " + ("twice" if inside else "unasked"))
            where, entries, number, inside = gpa, _entries(length, flags), 0, True
            continue
        if flags & _WRITE:
            writable.append(Buffer(gpa, length))
        elif writable:
            raise DriverError(f"descriptor {number} is to be read, behind one to be written")
        else:
            readable.append(Buffer(gpa, length))
        total += length
        if total > MOST_BYTES:
            raise DriverError(f"a chain has {total:#x} bytes, more than {MOST_BYTES:#x}")
        if not flags & _NEXT:
            return Chain(memory, head, readable, writable)
        number = following
    raise DriverError(f"the chain of descriptor {head} is longer than its queue of {size}")


def _entries(length: int, flags: int) -> int:
    """Return how many descriptors an indirect table of `length` bytes has (VIRTIO §2.7.5.3)."""
    if flags & _NEXT:
        raise DriverError("an indirect table has a descriptor behind it")
    if not length or length % DESCRIPTOR.size:
        raise DriverError(f"an indirect table has {length:#x} bytes, not those of descriptors")
    return length // DESCRIPTOR.size


def _cut(buffers: Sequence[Buffer], start: int, length: int) -> Iterator[Buffer]:
    """Yield the pieces that bytes `start` to `start` + `length` are in."""
    end, at = start + length, 0
    for one in buffers:
        low, high = max(start, at), min(end, at + one.length)
        if low < high:
            yield Buffer(one.gpa + low - at, high - low)
        at += one.length
