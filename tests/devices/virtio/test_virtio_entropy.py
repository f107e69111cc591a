"""The entropy device: the bytes of a run follow from its seed."""

from __future__ import annotations

import random

from virtio_driver import VERSION_1, driven

from quire.devices.virtio import EntropyDevice
from quire.devices.virtio.registers import Register


def test_the_seed_decides_and_the_stream_goes_on_over_resets():
    expected = random.Random(7).randbytes(64)
    driver = driven(EntropyDevice(7))
    found = driver.request([], [5, 0, 11]) + driver.request([], [16])
    driver.start()
    found += driver.request([], [32], table=True)
    assert found == b"".join(_stream(7, (16, 16, 32)))
    assert found != driven(EntropyDevice(8)).request([], [64])
    assert found[:16] == expected[:16]


def _stream(seed, counts):
    generator = random.Random(seed)
    return [generator.randbytes(count) for count in counts]


def test_it_gives_a_part_of_what_is_too_much():
    driver = driven(EntropyDevice(1))
    driver.request([b"ignored"], [1 << 17])
    assert driver.used() == (1, [(0, 1 << 16)] + [(0, 0)] * 7)
    assert driver.transport.device.bytes_given == 1 << 16
    assert driver.ram.data[0x8007 + (1 << 16) :].count(0) == len(driver.ram.data) - 0x8007 - (1 << 16)


def test_it_has_no_features_of_its_own():
    driver = driven(EntropyDevice(1))
    assert driver.get(Register.DEVICE_ID) == 4
    assert driver.transport.device.features == 0 and driver.features & VERSION_1
