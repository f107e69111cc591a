"""Windows of devices: which device an access finds, what it sees of it, what an empty bus does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.devices import Bus
from quire.errors import MisuseError


class Noted:
    """Reads as a number that is too wide, and keeps what it is told."""

    def __init__(self, value: int = -1) -> None:
        self.value, self.seen = value, []

    def read(self, offset: int, size: int) -> int:
        self.seen.append((offset, size))
        return self.value

    def write(self, offset: int, value: int, size: int) -> None:
        self.seen.append((offset, value, size))


def test_a_device_sees_distances_and_whole_values():
    bus, device = Bus(), Noted(0x1234567890ABCDEF)
    bus.attach(0x5000, 0x2000, device)
    assert [bus.read(0x6FF8, size) for size in (1, 2, 4, 8)] == [0xEF, 0xCDEF, 0x90ABCDEF, 0x1234567890ABCDEF]
    bus.write(0x5004, 0x1FF, 1)
    bus.write(0x5004, -1, 4)
    assert device.seen == [
        (0x1FF8, 1),
        (0x1FF8, 2),
        (0x1FF8, 4),
        (0x1FF8, 8),
        (4, 0xFF, 1),
        (4, 0xFFFFFFFF, 4),
    ]


def test_an_empty_bus_reads_as_ones_and_swallows():
    bus = Bus()
    bus.attach(0x5000, 0x1000, Noted(0))
    for gpa in (0x4FFF, 0x6000, 0, 1 << 63):
        assert [bus.read(gpa, size) for size in (1, 2, 4, 8)] == [
            (1 << 8 * size) - 1 for size in (1, 2, 4, 8)
        ]
        bus.write(gpa, 1, 8)


@pytest.mark.parametrize(
    ("start", "size"), [(0x5001, 0x1000), (0x5000, 0x800), (0x5000, 0), (0x5000, -0x1000)]
)
def test_a_window_is_whole_pages(start, size):
    with pytest.raises(MisuseError) as found:
        Bus().attach(start, size, Noted())
    assert str(found.value) == (
        f"A window of {size:#x} bytes at {start:#x} is not one of whole pages: give multiples of 0x1000"
    )


def test_a_page_that_is_taken_is_refused_and_nothing_is_attached():
    bus, first = Bus(), Noted(7)
    bus.attach(0x5000, 0x1000, first)
    with pytest.raises(MisuseError) as found:
        bus.attach(0x4000, 0x3000, Noted(8))
    assert str(found.value) == "GPA 0x5000 has a device already: attach elsewhere"
    assert (bus.read(0x4000, 1), bus.read(0x5000, 1)) == (0xFF, 7)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=8),
    st.lists(st.integers(0, 0x1A000), max_size=20),
)
def test_look_ups_are_those_of_a_list(windows, accesses):
    bus, kept = Bus(), []
    for number, (page, count) in enumerate(windows):
        taken = any(page < end and start < page + count for start, end, _ in kept)
        if taken:
            with pytest.raises(MisuseError):
                bus.attach(page << 12, count << 12, Noted(number))
        else:
            bus.attach(page << 12, count << 12, Noted(number))
            kept.append((page, page + count, number))
    for gpa in accesses:
        expected = [number for start, end, number in kept if start << 12 <= gpa < end << 12]
        assert bus.read(gpa, 2) == (expected[0] if expected else 0xFFFF)
