"""The console device: bytes in order both ways, none lost while the guest has no buffer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from virtio_driver import Driver, driven

from quire.devices.virtio import ConsoleDevice

RECEIVE, SEND = 0, 1


def make() -> tuple[Driver, ConsoleDevice, bytearray]:
    sent = bytearray()
    device = ConsoleDevice(sent.append)
    driver = driven(device)
    device.arrived = driver.transport.wake
    driver.transport.work()
    return driver, device, sent


def receive(driver: Driver, length: int) -> bytes:
    """Offer one buffer and return what comes into it."""
    before = driver.used(RECEIVE)[0]
    driver.free = driver.origin + 0x8000
    ((gpa, _),) = driver.offer([], [length], number=RECEIVE)
    driver.kick(RECEIVE)
    index, entries = driver.used(RECEIVE)
    return bytes(driver.ram.data[gpa : gpa + entries[before % driver.size][1]]) if index != before else b""


def say(driver: Driver, *data: bytes) -> None:
    driver.free = driver.origin + 0x8000
    driver.offer(data, [], number=SEND)
    driver.kick(SEND)


def test_what_is_sent_is_passed_on_in_order():
    driver, _, sent = make()
    say(driver, b"he", b"", b"llo")
    say(driver, b"!")
    assert sent == b"hello!" and driver.used(SEND)[1][:2] == [(0, 0), (0, 0)]


def test_long_output_is_whole():
    driver, _, sent = make()
    data = bytes(number % 251 for number in range(200_000))
    say(driver, data)
    assert sent == data


def test_input_waits_for_a_buffer_and_a_buffer_for_input():
    driver, device, _ = make()
    device.put(b"early")
    assert receive(driver, 3) == b"ear" and receive(driver, 16) == b"ly"
    assert receive(driver, 4) == b""
    device.put(b"abcdef")
    driver.transport.work()
    assert driver.used(RECEIVE) == (3, [(0, 3), (0, 2), (0, 4)] + [(0, 0)] * 5)
    assert driver.transport.interrupts() and receive(driver, 9) == b"ef"


def test_who_has_sent_nothing_or_has_no_buffer_wants_no_input():
    driver, device, _ = make()
    assert not device.wants_input
    receive(driver, 4)
    assert not device.wants_input
    say(driver, b"$ ")
    assert device.wants_input
    device.put(b"x")
    assert not device.wants_input
    driver.transport.work()
    assert not device.wants_input  # its buffer is used up
    receive(driver, 4)
    assert device.wants_input


def test_a_guest_without_a_driver_is_given_nothing():
    device = ConsoleDevice(lambda byte: None)
    device.put(b"x")
    assert not device.wants_input


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.integers(0, 9)), max_size=40))
def test_no_byte_is_lost_or_doubled(steps):
    """Input of any sizes into buffers of any sizes."""
    driver, device, _ = make()
    pending, buffers, expected, offered = b"", [], [], 0
    for step in steps:
        if isinstance(step, bytes):
            pending += step
            device.put(step)
            driver.transport.work()
        elif offered < driver.size:
            driver.describe(RECEIVE, offered, 0x8000 + 16 * offered, step, 2, 0)
            driver.make_available(offered, RECEIVE)
            driver.kick(RECEIVE)
            offered += 1
            buffers.append(step)
        while pending and buffers:
            length = buffers.pop(0)
            expected.append(pending[:length])
            pending = pending[length:]
    index, entries = driver.used(RECEIVE)
    assert [
        bytes(driver.ram.data[0x8000 + 16 * head : 0x8000 + 16 * head + length])
        for head, length in entries[:index]
    ] == expected
