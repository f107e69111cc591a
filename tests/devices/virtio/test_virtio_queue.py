"""Split queues: whatever a driver leaves in memory is served as the standard says, or the device needs a reset."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtio_driver import INDIRECT, NEEDS_RESET, NEXT, WRITE, Driver, Ram, Scripted, driven

from quire.devices.virtio.chain import MOST_BYTES
from quire.devices.virtio.mmio import MmioTransport
from quire.devices.virtio.queue import Virtqueue
from quire.devices.virtio.registers import Register


class Broken(Exception):
    """The driver broke a rule."""


class Twin:
    """A device of one queue, written from VIRTIO §2.7 on plain bytes: nothing is shared with what it is compared to."""

    def __init__(self, memory: bytes, size: int, places: tuple[int, int, int], start: int) -> None:
        self.memory, self.size = bytearray(memory), size
        self.table, self.available, self.used = places
        self.index = start
        self.served: list[tuple[int, bytes, int]] = []
        self.broken = False

    def number(self, at: int, count: int) -> int:
        if at + count > len(self.memory):
            raise Broken
        return int.from_bytes(self.memory[at : at + count], "little")

    def put(self, at: int, data: bytes) -> None:
        if at + len(data) > len(self.memory):
            raise Broken
        self.memory[at : at + len(data)] = data

    def buffers(self, table: int, entries: int, at: int, *, nested: bool) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        while True:
            if len(found) == self.size or at >= entries:
                raise Broken
            base = table + 16 * at
            gpa, length = self.number(base, 8), self.number(base + 8, 4)
            flags, at = self.number(base + 12, 2), self.number(base + 14, 2)
            if flags & INDIRECT:
                if nested or flags & NEXT or length % 16 or length == 0:
                    raise Broken
                rest = self.buffers(gpa, length // 16, 0, nested=True)
                if len(found) + len(rest) > self.size:
                    raise Broken
                return found + rest
            found.append((gpa, length, flags & WRITE))
            if not flags & NEXT:
                return found

    def run(self) -> None:
        try:
            count = (self.number(self.available + 2, 2) - self.index) % 65536
            if count > self.size:
                raise Broken
            for _ in range(count):
                self.one()
        except Broken:
            self.broken = True

    def one(self) -> None:
        head = self.number(self.available + 4 + self.index % self.size * 2, 2)
        found = self.buffers(self.table, self.size, head, nested=False)
        directions = [flags for _, _, flags in found]
        if directions != sorted(directions) or sum(length for _, length, _ in found) > MOST_BYTES:
            raise Broken
        inputs = b""
        for gpa, length, flags in found:
            if not flags and length:
                self.number(gpa, length)
                inputs += self.memory[gpa : gpa + length]
        room = sum(length for _, length, flags in found if flags)
        self.served.append((head, inputs, room))
        for gpa, length, flags in found:
            if flags and length:
                self.put(gpa, b"\xaa" * length)
        self.put(self.used + 4 + self.index % self.size * 8, struct.pack("<II", head, room))
        self.index = (self.index + 1) % 65536
        self.put(self.used + 2, struct.pack("<H", self.index))
        self.number(self.available, 2)


SIZE = 0x1000
ADDRESSES = st.one_of(
    st.integers(0, SIZE + 64),
    st.integers(0, 0x40).map(lambda at: 0x400 + 16 * at),
    st.sampled_from([(1 << 64) - 1, (1 << 63), SIZE - 1, 1 << 32]),
)
LENGTHS = st.one_of(
    st.integers(0, 64),
    st.integers(0, 12).map(lambda n: 16 * n),
    st.sampled_from([SIZE, 0xFFFFFFFF, MOST_BYTES]),
)
FLAGS = st.one_of(
    st.sampled_from([0, NEXT, WRITE, NEXT | WRITE, INDIRECT]),
    st.integers(0, 0xFFFF),
)


def descriptors(count: int):
    one = st.builds(
        lambda *fields: struct.pack("<QIHH", *fields), ADDRESSES, LENGTHS, FLAGS, st.integers(0, count + 1)
    )
    return st.lists(one, min_size=count, max_size=count).map(b"".join)


class World(NamedTuple):
    """A queue of `size` entries at three `places`, which may overlap one another; `start` is the index so far."""

    table: bytes
    ring: bytes
    size: int
    places: tuple[int, int, int]
    start: int

    @property
    def memory(self) -> bytes:
        made = bytearray(SIZE)
        made[0x400 : 0x400 + len(self.table)] = self.table
        made[self.places[1] : self.places[1] + len(self.ring)] = self.ring
        return bytes(made[:SIZE])


@st.composite
def worlds(draw):
    size = draw(st.sampled_from([1, 2, 4, 8]))
    table = draw(st.sampled_from([0x400, 0x440, 0x5E0, SIZE - 16]))
    available = draw(st.sampled_from([0x100, 0x402, 0x500, SIZE - 8, SIZE - 2]))
    used = draw(st.sampled_from([0x200, 0x404, 0x100, SIZE - 8, SIZE, 1 << 40]))
    start = draw(st.sampled_from([0, 1, 0xFFFE, 0xFFFF]))
    index = (start + draw(st.integers(0, size + 1))) % 65536
    ring = draw(st.lists(st.integers(0, size), min_size=size, max_size=size))
    text = struct.pack(f"<HH{size}H", draw(st.integers(0, 1)), index, *ring)
    return World(draw(descriptors(32)), text, size, (table, available, used), start)


@given(worlds())
def test_whatever_is_in_memory_is_served_as_by_the_twin(world):
    twin = Twin(world.memory, world.size, world.places, world.start)
    twin.run()
    ram, device = Ram(SIZE), Scripted()
    transport = _started(device, ram, world)
    ram.reads.clear()
    transport.write(Register.QUEUE_NOTIFY, 0, 4)
    transport.work()
    assert [one[1:] for one in device.served] == twin.served
    assert (
        bool(transport.read(Register.STATUS, 4) & NEEDS_RESET)
        == twin.broken
        == (transport.trouble is not None)
    )
    assert ram.data == twin.memory
    assert not transport.has_work
    assert len(ram.reads) <= 4 + world.size * (4 * world.size + 4)


def _started(device, ram, world):
    """Return a transport whose queue is where a world has it."""
    device.queue_count = 1
    driver = Driver(MmioTransport(device, ram), ram)
    driver.start()
    driver.transport.work()
    ram.data[:] = world.memory
    driver.transport._queues[0] = Virtqueue(world.size, True, *world.places, world.start, world.start)
    return driver.transport


def one_chain(driver, *lines):
    """Offer a chain whose descriptors are `lines`: address, length, flags, next."""
    for index, line in enumerate(lines):
        driver.describe(0, index, *line)
    driver.make_available(0)
    driver.kick()


@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        ([(0x8000, 8, NEXT, 0)], "the chain of descriptor 0 is longer than its queue of 8"),
        ([(0x8000, 8, NEXT, 8)], "descriptor 8 lies beyond a table of 8"),
        (
            [(0x8000, 8, NEXT | WRITE, 1), (0x8000, 8, 0, 0)],
            "descriptor 1 is to be read, behind one to be written",
        ),
        ([(0x8000, 24, INDIRECT, 0)], "an indirect table has 0x18 bytes, not those of descriptors"),
        ([(0x8000, 0, INDIRECT, 0)], "an indirect table has 0x0 bytes, not those of descriptors"),
        ([(0x8000, 16, INDIRECT | NEXT, 1)], "an indirect table has a descriptor behind it"),
        ([(0, 16, INDIRECT, 0)], "descriptor 0 is indirect twice"),
        ([(1 << 63, 8, 0, 0)], "nothing at 0x8000000000000000 to 0x8000000000000008"),
        ([(0x8000, 0xFFFFFFFF, 0, 0)], "a chain has 0xffffffff bytes, more than 0x1000000"),
        (
            [(0x8000, MOST_BYTES, NEXT, 1), (0x8000, 1, 0, 0)],
            "a chain has 0x1000001 bytes, more than 0x1000000",
        ),
    ],
)
def test_a_rule_that_is_broken_is_named_and_nothing_is_served(lines, trouble):
    driver = driven(Scripted())
    one_chain(driver, *lines)
    assert driver.transport.trouble == trouble
    assert driver.status & NEEDS_RESET and driver.used()[0] == 0 and not driver.transport.device.served


def test_an_index_that_jumps():
    driver = driven(Scripted())
    driver.make_available(0, by=9)
    driver.kick()
    assert driver.transport.trouble == "the driver's index jumped by 9, in a queue of 8"


def test_an_indirect_table_has_to_be_agreed_on():
    driver = driven(Scripted())
    driver.features = 1 << 32
    driver.start()
    one_chain(driver, (0x8000, 16, INDIRECT, 0))
    assert driver.transport.trouble == "descriptor 0 is indirect unasked"


@pytest.mark.parametrize("table", [False, True])
def test_how_a_request_is_cut_says_nothing(table):
    driver = driven(Scripted())
    where = driver.offer([b"ab", b"", b"cdef"], [1, 0, 3], table=table)
    driver.kick()
    assert driver.transport.device.served == [(0, 0, b"abcdef", 4)]
    assert [bytes(driver.ram.data[gpa : gpa + length]) for gpa, length in where] == [
        b"\xaa",
        b"",
        b"\xaa" * 3,
    ]
    assert driver.used() == (1, [(0, 4)] + [(0, 0)] * 7)


def test_descriptors_before_an_indirect_one_count():
    driver = driven(Scripted())
    driver.ram.data[0x8000:0x8020] = struct.pack("<QIHHQIHH", 0x9000, 2, NEXT, 1, 0x9100, 5, WRITE, 0)
    driver.ram.data[0x9000:0x9002], driver.ram.data[0xA000:0xA003] = b"de", b"abc"
    one_chain(driver, (0xA000, 3, NEXT, 1), (0x8000, 32, INDIRECT, 0))
    assert driver.transport.device.served == [(0, 0, b"abcde", 5)]


def test_each_descriptor_is_read_once():
    driver = driven(Scripted())
    driver.offer([b"abc"], [4, 4])
    driver.ram.reads.clear()
    driver.kick()
    table = [gpa for gpa, _ in driver.ram.reads if gpa < 16 * driver.size]
    assert table == [0, 16, 32]


def test_the_index_is_written_behind_the_entry():
    driver = driven(Scripted())
    driver.offer([b"abc"], [])
    driver.ram.writes.clear()
    driver.kick()
    assert driver.ram.writes == [(0xC04, 8), (0xC02, 2)]


def test_indices_go_round():
    driver = driven(Scripted(), size=4)
    for number in range(65536 + 6):
        driver.make_available(number % 4)
        if number % 4 == 3:
            driver.set(Register.QUEUE_NOTIFY, 0)
            driver.transport.work()
            driver.transport.device.served.clear()
            driver.ram.reads.clear()
            driver.ram.writes.clear()
    assert driver.used()[0] == 4 and driver.transport.trouble is None


def test_a_driver_that_wants_no_interrupt_gets_none():
    driver = driven(Scripted())
    driver.ram.data[0x800] = 1
    driver.offer([b"abc"], [])
    driver.kick()
    assert driver.used()[0] == 1 and not driver.transport.interrupts()
    driver.ram.data[0x800] = 0
    driver.offer([b"abc"], [])
    driver.kick()
    assert driver.used()[0] == 2 and driver.transport.interrupts()


def test_a_chain_that_has_to_wait_stays():
    driver = driven(Scripted())
    driver.transport.device.waits = True
    driver.offer([b"abc"], [])
    driver.kick()
    assert driver.used()[0] == 0 and not driver.transport.has_work
    driver.transport.device.waits = False
    driver.kick()
    assert driver.used()[0] == 1 and driver.transport.device.served == [(0, 0, b"abc", 0)]
