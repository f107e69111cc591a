"""The balloon against a set of pages: what comes in, what goes out, what is no page."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtio_driver import NEEDS_RESET, driven

from quire.devices.virtio import BalloonDevice

INFLATE, DEFLATE = 0, 1
END = 64 << 12


def make():
    given: list[int] = []

    def take(gpas):
        given.extend(gpas)
        return len(gpas) // 2

    device = BalloonDevice(10 << 12, END, take)
    return driven(device), device, given


def tell(driver, queue: int, numbers, *, cut: int = 1 << 20) -> None:
    text = struct.pack(f"<{len(numbers)}I", *numbers)
    driver.free = driver.origin + 0x8000
    driver.offer([text[:cut], text[cut:]], [], number=queue)
    driver.kick(queue)


STEPS = st.lists(
    st.tuples(
        st.sampled_from([INFLATE, DEFLATE]), st.lists(st.integers(0, 63), max_size=20), st.integers(0, 99)
    ),
    max_size=12,
)


@given(STEPS)
def test_pages_are_those_of_a_set(steps):
    driver, device, given = make()
    inside, named = set(), []
    for queue, numbers, cut in steps:
        tell(driver, queue, numbers, cut=cut)
        if queue == INFLATE:
            inside |= set(numbers)
            named += [number << 12 for number in numbers]
        else:
            inside -= set(numbers)
        assert driver.transport.trouble is None
        assert (driver.get(0x100), driver.get(0x104)) == (10, len(inside)) == (device.wanted, device.pages)
    assert given == named


def test_it_counts_what_the_host_got():
    driver, device, _ = make()
    tell(driver, INFLATE, range(7))
    assert (device.pages, device.frames_returned) == (7, 3)


@pytest.mark.parametrize("queue", [INFLATE, DEFLATE])
@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (b"abc", "a list of pages for the balloon has 0x3 bytes"),
        (bytes(4 * 4097), "a list of pages for the balloon has 0x4004 bytes"),
        (struct.pack("<2I", 3, 64), "page 0x40 for the balloon is none of the guest's 0x40"),
        (struct.pack("<I", 0xFFFFFFFF), "page 0xffffffff for the balloon is none of the guest's 0x40"),
    ],
)
def test_what_is_no_page(queue, text, trouble):
    driver, device, given = make()
    driver.offer([text], [], number=queue)
    driver.kick(queue)
    assert driver.transport.trouble == trouble and driver.status & NEEDS_RESET
    assert not given and not device.pages
