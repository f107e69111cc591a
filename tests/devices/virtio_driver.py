"""The driver's half of virtio, without a guest: memory, queues, and registers through a transport's page."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from quire.devices.virtio import MmioTransport, NoMemory
from quire.devices.virtio.registers import STATUS, Register

NEXT, WRITE, INDIRECT = 1, 2, 4
VERSION_1, INDIRECT_DESC = 1 << 32, 1 << 28
READY = STATUS.mask("ACKNOWLEDGE", "DRIVER", "FEATURES_OK", "DRIVER_OK")
NEEDS_RESET = STATUS.mask("NEEDS_RESET")


class Ram:
    """Guest memory; `reads` are GPA and length of each read."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []

    def read(self, gpa: int, length: int) -> bytes:
        self._check(gpa, length)
        self.reads.append((gpa, length))
        return bytes(self.data[gpa : gpa + length])

    def write(self, gpa: int, data: bytes) -> None:
        self._check(gpa, len(data))
        self.writes.append((gpa, len(data)))
        self.data[gpa : gpa + len(data)] = data

    def _check(self, gpa: int, length: int) -> None:
        if gpa + length > len(self.data):
            raise NoMemory(f"nothing at {gpa:#x} to {gpa + length:#x}")


class Scripted:
    """A device that keeps the chains that it is given, and fills what is to be written with `fill`."""

    kind, features, queue_count = 42, 0, 2
    config = bytes(range(16))

    def __init__(self, fill: bytes = b"\xaa") -> None:
        self.served: list[tuple[int, int, bytes, int]] = []
        self.waits = False
        self._fill = fill

    def serve(self, queue, chain):
        if self.waits:
            return None
        self.served.append((queue, chain.head, chain.read(0, chain.readable_bytes), chain.writable_bytes))
        chain.write(0, self._fill * chain.writable_bytes)
        return chain.writable_bytes


class Driver:
    """Drives `transport`, whose guest has `ram`. From `origin`, queue n lies at n * 0x1000, buffers at 0x8000."""

    def __init__(self, transport: MmioTransport, ram: Ram, size: int = 8, *, origin: int = 0) -> None:
        self.transport, self.ram, self.size, self.origin = transport, ram, size, origin
        self.features = VERSION_1 | INDIRECT_DESC

    def get(self, register: int) -> int:
        return self.transport.read(register, 4)

    def set(self, register: int, value: int) -> None:
        self.transport.write(register, value, 4)

    @property
    def status(self) -> int:
        return self.get(Register.STATUS)

    def start(self) -> None:
        """Reset the device and set it up as VIRTIO §3.1.1 says."""
        self.set(Register.STATUS, 0)
        self.free = self.origin + 0x8000
        for bits in ("ACKNOWLEDGE", "DRIVER"):
            self.set(Register.STATUS, self.status | STATUS.mask(bits))
        for half in (0, 1):
            self.set(Register.DRIVER_FEATURES_SELECT, half)
            self.set(Register.DRIVER_FEATURES, self.features >> 32 * half & 0xFFFFFFFF)
        self.set(Register.STATUS, self.status | STATUS.mask("FEATURES_OK"))
        assert self.status & STATUS.mask("FEATURES_OK")
        for number in range(self.transport.device.queue_count):
            self.set_up(number)
        self.set(Register.STATUS, self.status | STATUS.mask("DRIVER_OK"))

    def set_up(self, number: int) -> None:
        base = self.base(number)
        self.ram.data[base : base + 0x1000] = bytes(0x1000)
        self.set(Register.QUEUE_SELECT, number)
        self.set(Register.QUEUE_SIZE, self.size)
        for low, where in (
            (Register.DESCRIPTORS_LOW, base),
            (Register.AVAILABLE_LOW, base + 0x800),
            (Register.USED_LOW, base + 0xC00),
        ):
            self.set(low, where & 0xFFFFFFFF)
            self.set(low + 4, where >> 32)
        self.set(Register.QUEUE_READY, 1)

    def base(self, number: int) -> int:
        return self.origin + 0x1000 * number

    def describe(self, number: int, index: int, gpa: int, length: int, flags: int, following: int) -> None:
        at = self.base(number) + 16 * index
        self.ram.data[at : at + 16] = struct.pack("<QIHH", gpa, length, flags, following)

    def room(self, length: int) -> int:
        gpa, self.free = self.free, self.free + length
        return gpa

    def offer(
        self, readable: Sequence[bytes], writable: Sequence[int], *, number: int = 0, table: bool = False
    ) -> list[tuple[int, int]]:
        """Make a chain of these buffers available, from descriptor 0 on; return where those to be written are."""
        made: list[tuple[int, int, int]] = []
        for data in readable:
            gpa = self.room(len(data))
            self.ram.data[gpa : gpa + len(data)] = data
            made.append((gpa, len(data), 0))
        made += [(self.room(length), length, WRITE) for length in writable]
        for gpa, length, flags in made:
            if flags:
                self.ram.data[gpa : gpa + length] = bytes(length)
        last = len(made) - 1
        lines = [
            struct.pack("<QIHH", gpa, length, flags | (NEXT if at < last else 0), at + 1)
            for at, (gpa, length, flags) in enumerate(made)
        ]
        text = b"".join(lines)
        if table:
            gpa = self.room(len(text) + 16) + 15 & ~15
            self.ram.data[gpa : gpa + len(text)] = text
            self.describe(number, 0, gpa, len(text), INDIRECT, 0)
        else:
            base = self.base(number)
            self.ram.data[base : base + len(text)] = text
        self.make_available(0, number)
        return [(gpa, length) for gpa, length, flags in made if flags]

    def make_available(self, head: int, number: int = 0, *, by: int = 1) -> None:
        ring = self.base(number) + 0x800
        index = int.from_bytes(self.ram.data[ring + 2 : ring + 4], "little")
        at = ring + 4 + 2 * (index % self.size)
        self.ram.data[at : at + 2] = struct.pack("<H", head)
        self.ram.data[ring + 2 : ring + 4] = struct.pack("<H", index + by & 0xFFFF)

    def kick(self, number: int = 0) -> None:
        """Notify the device, and let it work until it has nothing left."""
        self.set(Register.QUEUE_NOTIFY, number)
        while self.transport.has_work:
            self.transport.work()

    def used(self, number: int = 0) -> tuple[int, list[tuple[int, int]]]:
        """Return the device's index, and its ring: head and bytes written of each."""
        ring = self.base(number) + 0xC00
        index = int.from_bytes(self.ram.data[ring + 2 : ring + 4], "little")
        entries = struct.iter_unpack("<II", bytes(self.ram.data[ring + 4 : ring + 4 + 8 * self.size]))
        return index, list(entries)

    def request(self, readable: Sequence[bytes], writable: Sequence[int], *, table: bool = False) -> bytes:
        """Have one chain served by queue 0; return what was written, in one piece."""
        self.free = self.origin + 0x8000
        before = self.used()[0]
        where = self.offer(readable, writable, table=table)
        self.kick()
        assert self.used()[0] == before + 1 & 0xFFFF, self.transport.trouble
        return b"".join(bytes(self.ram.data[gpa : gpa + length]) for gpa, length in where)


def driven(device, *, size: int = 8, ram: int = 1 << 20) -> Driver:
    """Return a driver of `device` that has set it up."""
    memory = Ram(ram)
    made = Driver(MmioTransport(device, memory), memory, size)
    made.start()
    return made
