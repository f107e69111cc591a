"""A hostile driver: it scribbles over queues, writes any register, resets; a device answers or needs a reset."""

from __future__ import annotations

import struct

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sampling import some
from virtio_driver import INDIRECT, NEEDS_RESET, NEXT, READY, WRITE, Driver, Ram

from quire.devices.virtio import BlockDevice, DiskMode, MmioTransport
from quire.devices.virtio.block import Request
from quire.devices.virtio.registers import Register

SECTORS = 16
MEMORY = 0x10000
REGISTERS = st.one_of(st.sampled_from(list(Register)), st.integers(0, 0xFFF))
ADDRESSES = st.one_of(
    st.integers(0, 0x60).map(lambda n: 16 * n),
    st.integers(0, MEMORY + 64),
    st.sampled_from([0x800, 0xC00, MEMORY - 1, (1 << 64) - 1, 1 << 63]),
)
NUMBERS = st.one_of(
    st.integers(0, 300), st.integers(0, 0xFFFFFFFF), st.sampled_from([READY, 0x80000000, 0xFFFFFFFF])
)


class MemoryDisk:
    """A disk without a file, which refuses what lies outside."""

    name, mode, sectors = "memory", DiskMode.WRITABLE, SECTORS

    def __init__(self) -> None:
        self.data = bytearray(SECTORS * 512)

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and offset + length <= len(self.data)
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        assert offset >= 0 and offset + len(data) <= len(self.data)
        self.data[offset : offset + len(data)] = data

    def erase(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def flush(self) -> None: ...

    def close(self) -> None: ...


class HostileDriver(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ram, self.disk = Ram(MEMORY), MemoryDisk()
        self.transport = MmioTransport(BlockDevice(self.disk), self.ram)
        self.level = False
        self.transport.changed = self.look
        self.driver = Driver(self.transport, self.ram)
        self.driver.start()
        self.transport.work()

    def look(self) -> None:
        self.level = self.transport.interrupts()

    @rule(register=REGISTERS, value=NUMBERS, size=st.sampled_from([4, 4, 4, 1, 2, 8]))
    def write_register(self, register: int, value: int, size: int) -> None:
        self.transport.write(register, value & (1 << 8 * size) - 1, size)

    @rule(register=REGISTERS, size=st.sampled_from([1, 2, 4, 8]))
    def read_register(self, register: int, size: int) -> None:
        assert 0 <= self.transport.read(register, size) < 1 << 8 * size

    @rule(
        index=st.integers(0, 8),
        gpa=ADDRESSES,
        length=st.one_of(st.sampled_from([0, 1, 15, 16, 32, 512, 0xFFFFFFFF]), NUMBERS),
        flags=st.one_of(st.sampled_from([0, NEXT, WRITE, NEXT | WRITE, INDIRECT]), st.integers(0, 0xFFFF)),
        following=st.integers(0, 9),
    )
    def scribble_descriptor(self, index: int, gpa: int, length: int, flags: int, following: int) -> None:
        self.driver.describe(0, index, gpa, length, flags, following)

    @rule(at=st.integers(0, MEMORY - 64), data=st.binary(min_size=1, max_size=64))
    def scribble(self, at: int, data: bytes) -> None:
        self.ram.data[at : at + len(data)] = data

    @rule(head=st.integers(0, 9), by=st.sampled_from([1, 1, 1, 0, 2, 8, 9, 0x8000, 0xFFFF]))
    def offer(self, head: int, by: int) -> None:
        self.driver.make_available(head, by=by)

    @rule(
        kind=st.sampled_from([*Request, 2, 10, 99]),
        sector=st.one_of(st.integers(0, SECTORS + 1), st.sampled_from([(1 << 64) - 1, 1 << 55])),
        length=st.sampled_from([0, 1, 16, 512, 1024, 4096]),
    )
    def request(self, kind: int, sector: int, length: int) -> None:
        self.driver.free = 0x8000
        self.driver.offer(
            [struct.pack("<IIQ", kind, 0, sector), bytes(length)], [1], table=bool(length & 512)
        )

    @rule(number=st.integers(0, 2))
    def notify(self, number: int) -> None:
        self.transport.write(Register.QUEUE_NOTIFY, number, 4)

    @rule()
    def work(self) -> None:
        self.ram.reads.clear()
        self.transport.work()
        assert len(self.ram.reads) < 8 * 256 * 4
        assert not self.transport.has_work

    @rule()
    def start_over(self) -> None:
        """Whatever was done before, a driver that keeps to the rules is served."""
        self.driver.start()
        self.transport.work()
        assert self.driver.status == READY
        assert self.driver.request([struct.pack("<IIQ", Request.OUT, 0, 3), b"q" * 512], [1]) == b"\0"
        assert self.driver.request([struct.pack("<IIQ", Request.IN, 0, 3)], [512, 1]) == b"q" * 512 + b"\0"

    @invariant()
    def the_line_is_what_is_pending(self) -> None:
        pending = self.transport.read(Register.INTERRUPT_STATUS, 4)
        assert self.level == self.transport.interrupts() == bool(pending)

    @invariant()
    def a_broken_device_rests(self) -> None:
        if self.driver.status & NEEDS_RESET:
            assert not self.transport.has_work and self.transport.trouble is not None


TestHostileDriver = HostileDriver.TestCase
TestHostileDriver.settings = settings(max_examples=some(400, 40), stateful_step_count=40, deadline=None)
