"""Registers of virtio over memory: what they read, which moves are legal, when a device works and interrupts."""

from __future__ import annotations

from itertools import product

import pytest
from virtio_driver import INDIRECT_DESC, NEEDS_RESET, READY, VERSION_1, Driver, Ram, Scripted, driven

from quire.devices.virtio import MmioTransport
from quire.devices.virtio.registers import INTERRUPT, STATUS, Register

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED = (
    STATUS.mask(one) for one in ("ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK", "FAILED")
)
USED, CHANGED = INTERRUPT.mask("USED"), INTERRUPT.mask("CONFIG")
#: In the order of VIRTIO §3.1.1, typed by hand: what has to be there before.
BEFORE = {ACKNOWLEDGE: 0, DRIVER: 1, FEATURES_OK: 3, DRIVER_OK: 11, FAILED: 0}

OFFSETS = """
MAGIC 000 VERSION 004 DEVICE_ID 008 VENDOR_ID 00c
DEVICE_FEATURES 010 DEVICE_FEATURES_SELECT 014 DRIVER_FEATURES 020 DRIVER_FEATURES_SELECT 024
QUEUE_SELECT 030 QUEUE_SIZE_MAX 034 QUEUE_SIZE 038 QUEUE_READY 044 QUEUE_NOTIFY 050
INTERRUPT_STATUS 060 INTERRUPT_ACKNOWLEDGE 064 STATUS 070
DESCRIPTORS_LOW 080 DESCRIPTORS_HIGH 084 AVAILABLE_LOW 090 AVAILABLE_HIGH 094 USED_LOW 0a0 USED_HIGH 0a4
SHARED_LENGTH_LOW 0b0 SHARED_LENGTH_HIGH 0b4 SHARED_BASE_LOW 0b8 SHARED_BASE_HIGH 0bc
CONFIG_GENERATION 0fc
"""


def fresh() -> Driver:
    ram = Ram(1 << 16)
    return Driver(MmioTransport(Scripted(), ram), ram)


def test_what_registers_read_at_first():
    driver = fresh()
    read = {offset: driver.get(offset) for offset in range(0, 0x100, 4)}
    assert {offset: value for offset, value in read.items() if value} == {
        0x000: int.from_bytes(b"virt", "little"),
        0x004: 2,
        0x008: 42,
        0x00C: int.from_bytes(b"QUIR", "little"),
        0x010: INDIRECT_DESC,
        0x034: 256,
        **dict.fromkeys((0x0B0, 0x0B4, 0x0B8, 0x0BC), 0xFFFFFFFF),
    }


def test_registers_are_at_the_offsets_of_the_standard():
    text = OFFSETS.split()
    assert {one.name: one.value for one in Register} == {
        name: int(at, 16) for name, at in zip(text[::2], text[1::2], strict=True)
    }


def test_only_whole_aligned_accesses_reach_registers():
    driver = fresh()
    read, write = driver.transport.read, driver.transport.write
    assert [read(0, size) for size in (1, 2, 4, 8)] == [0, 0, 0x74726976, 0]
    assert read(2, 4) == 0
    for offset, size in ((Register.STATUS, 1), (Register.STATUS, 8), (Register.STATUS + 1, 4)):
        write(offset, ACKNOWLEDGE, size)
    assert driver.status == 0


def test_the_configuration_is_read_in_any_width_and_ends():
    read = fresh().transport.read
    assert [
        read(0x101, 1),
        read(0x102, 2),
        read(0x104, 4),
        read(0x10E, 4),
        read(0x110, 4),
        read(0xFFC, 4),
    ] == [
        0x01,
        0x0302,
        0x07060504,
        0x0F0E,
        0,
        0,
    ]


@pytest.mark.parametrize("moves", list(product(BEFORE, repeat=4)), ids=str)
def test_every_order_of_the_status(moves):
    driver = fresh()
    driver.set(Register.DRIVER_FEATURES_SELECT, 1)
    driver.set(Register.DRIVER_FEATURES, 1)
    expected = 0
    for new in moves:
        driver.set(Register.STATUS, driver.status | new)
        if expected & BEFORE[new] == BEFORE[new]:
            expected |= new
        assert driver.status == expected
    driver.set(Register.STATUS, ACKNOWLEDGE)
    assert driver.status == expected | ACKNOWLEDGE  # no bit goes but by a reset
    driver.set(Register.STATUS, 0)
    assert driver.status == 0


@pytest.mark.parametrize(
    ("low", "high", "agreed"),
    [(0, 1, True), (INDIRECT_DESC, 1, True), (0, 0, False), (1, 1, False), (0, 3, False)],
)
def test_features_are_agreed_on_or_not(low, high, agreed):
    driver = fresh()
    for bits in (ACKNOWLEDGE, DRIVER):
        driver.set(Register.STATUS, driver.status | bits)
    for half, value in enumerate((low, high, 0xFFFFFFFF)):
        driver.set(Register.DRIVER_FEATURES_SELECT, half)
        driver.set(Register.DRIVER_FEATURES, value)
    driver.set(Register.STATUS, driver.status | FEATURES_OK)
    assert bool(driver.status & FEATURES_OK) == agreed


def test_features_are_offered_by_halves_and_fixed_once_agreed_on():
    driver = fresh()
    offered = []
    for half in (0, 1, 2, 0xFFFFFFFF):
        driver.set(Register.DEVICE_FEATURES_SELECT, half)
        offered.append(driver.get(Register.DEVICE_FEATURES))
    assert offered == [INDIRECT_DESC, VERSION_1 >> 32, 0, 0]
    driver.start()
    driver.set(Register.DRIVER_FEATURES_SELECT, 0)
    driver.set(Register.DRIVER_FEATURES, 0)
    driver.offer([b"abc"], [], table=True)
    driver.kick()
    assert driver.transport.trouble is None and driver.used()[0] == 1


def test_a_queue_that_is_not_there():
    driver = driven(Scripted())
    driver.set(Register.QUEUE_SELECT, 2)
    assert (driver.get(Register.QUEUE_SIZE_MAX), driver.get(Register.QUEUE_READY)) == (0, 0)
    for register in (Register.QUEUE_SIZE, Register.DESCRIPTORS_LOW, Register.USED_HIGH, Register.QUEUE_READY):
        driver.set(register, 1)
    driver.set(Register.QUEUE_NOTIFY, 2)
    driver.set(Register.QUEUE_NOTIFY, 0xFFFFFFFF)
    driver.transport.work()
    assert driver.status == READY


@pytest.mark.parametrize(
    ("register", "value", "trouble"),
    [
        (Register.QUEUE_SIZE, 0, "a queue has 0x0 entries: not a power of two up to 256"),
        (Register.QUEUE_SIZE, 3, "a queue has 0x3 entries: not a power of two up to 256"),
        (Register.QUEUE_SIZE, 512, "a queue has 0x200 entries: not a power of two up to 256"),
        (Register.QUEUE_SIZE, 0x80000000, "a queue has 0x80000000 entries: not a power of two up to 256"),
        (Register.DESCRIPTORS_LOW, 8, "a part of a queue is at 0x8, which is no multiple of 16"),
        (Register.AVAILABLE_LOW, 1, "a part of a queue is at 0x1, which is no multiple of 2"),
        (Register.USED_LOW, 2, "a part of a queue is at 0x2, which is no multiple of 4"),
    ],
)
def test_a_queue_that_cannot_be(register, value, trouble):
    driver = driven(Scripted())
    driver.set(Register.QUEUE_READY, 0)
    driver.set(register, value)
    driver.set(Register.QUEUE_READY, 1)
    assert driver.transport.trouble == trouble and driver.get(Register.QUEUE_READY) == 0
    assert driver.status == READY | NEEDS_RESET


def test_a_queue_in_use_does_not_move():
    driver = driven(Scripted())
    driver.set(Register.QUEUE_SELECT, 0)
    driver.set(Register.QUEUE_SIZE, 3)
    driver.set(Register.DESCRIPTORS_LOW, 0x4000)
    assert driver.request([b"abc"], [1]) == b"\xaa"


def test_addresses_have_two_halves():
    driver = driven(Scripted())
    driver.set(Register.QUEUE_READY, 0)
    driver.set(Register.DESCRIPTORS_HIGH, 0x80)
    driver.set(Register.QUEUE_READY, 1)
    driver.make_available(0, 1)
    driver.kick(1)
    assert driver.transport.trouble == "nothing at 0x8000001000 to 0x8000001010"


def test_the_line_is_up_until_every_cause_is_acknowledged():
    driver = driven(Scripted())
    levels: list[bool] = []
    driver.transport.changed = lambda: levels.append(driver.transport.interrupts())
    driver.request([b"a"], [1])
    assert (driver.get(Register.INTERRUPT_STATUS), levels) == (USED, [True])
    driver.make_available(0, by=9)
    driver.kick()
    assert driver.get(Register.INTERRUPT_STATUS) == USED | CHANGED
    driver.set(Register.INTERRUPT_ACKNOWLEDGE, USED)
    driver.set(Register.INTERRUPT_ACKNOWLEDGE, 0xFFFFFFFF)
    assert levels == [True, True, True, False] and driver.get(Register.INTERRUPT_STATUS) == 0


def test_a_device_that_needs_a_reset_does_nothing_until_it_is_reset():
    driver = driven(Scripted())
    driver.make_available(0, by=9)
    driver.kick()
    assert driver.status == READY | NEEDS_RESET
    driver.set(Register.STATUS, READY)
    assert driver.status == READY | NEEDS_RESET
    driver.ram.writes.clear()
    driver.offer([b"abc"], [3], number=1)
    driver.kick(1)
    assert not driver.ram.writes and not driver.transport.has_work
    driver.start()
    assert driver.status == READY and not driver.transport.interrupts()
    assert driver.request([b"abc"], [3]) == b"\xaa" * 3


def test_what_was_made_available_too_early_is_served_once_the_driver_is_ready():
    ram = Ram(1 << 16)
    driver = Driver(MmioTransport(Scripted(), ram), ram)
    set_up = driver.set_up

    def early(number: int) -> None:
        set_up(number)
        driver.offer([b"x"], [], number=number)
        driver.set(Register.QUEUE_NOTIFY, number)

    driver.set_up = early
    driver.start()
    driver.transport.work()
    assert [one[0] for one in driver.transport.device.served] == [0, 1]


def test_a_notice_asks_for_work_and_does_none():
    driver = driven(Scripted())
    driver.transport.work()
    asked: list[bool] = []
    driver.transport.asked = lambda: asked.append(driver.transport.has_work)
    driver.offer([b"abc"], [])
    driver.set(Register.QUEUE_NOTIFY, 0)
    assert asked == [True] and driver.used()[0] == 0
    driver.transport.work()
    assert driver.used()[0] == 1 and not driver.transport.has_work


def test_after_many_bytes_the_guest_has_a_turn():
    driver = driven(Scripted(), ram=17 << 20)
    driver.describe(0, 0, 0x8000, 15 << 20, 0, 0)
    for _ in range(5):
        driver.make_available(0)
    driver.set(Register.QUEUE_NOTIFY, 0)
    rounds = []
    while driver.transport.has_work:
        driver.transport.work()
        rounds.append(driver.used()[0])
    assert rounds == [2, 4, 5]


def test_a_queue_that_was_stopped_begins_anew():
    driver = driven(Scripted())
    driver.request([b"abc"], [3])
    driver.set(Register.QUEUE_SELECT, 0)
    driver.set(Register.QUEUE_READY, 0)
    driver.offer([b"abc"], [3])
    driver.kick()
    assert driver.used()[0] == 1
    driver.set_up(0)
    assert driver.request([b"abc"], [3]) == b"\xaa" * 3 and driver.used()[0] == 1
