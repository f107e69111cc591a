"""How a guest ends itself: every port, every byte."""

from __future__ import annotations

import pytest

from quire.devices import Ending, Ports, Power
from quire.devices.power import KEYBOARD_COMMAND, RESET_CONTROL, RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS


def ended(port: int, value: int, size: int = 1) -> list[Ending]:
    found: list[Ending] = []
    Power(found.append).write(port, value, size)
    return found


@pytest.mark.parametrize(
    ("port", "how", "which"),
    [
        (KEYBOARD_COMMAND, Ending.RESET, lambda value: value == 0xFE),
        (RESET_CONTROL, Ending.RESET, lambda value: value & 4),
        (SLEEP_CONTROL, Ending.OFF, lambda value: value & 0x20),
        (SLEEP_STATUS, Ending.OFF, lambda value: False),
        (0x80, Ending.OFF, lambda value: False),
    ],
)
def test_every_byte(port, how, which):
    for value in range(256):
        assert ended(port, value) == ([how] if which(value) else []), hex(value)


def test_what_acpi_is_told_to_write_resets():
    assert ended(RESET_CONTROL, RESET_VALUE) == [Ending.RESET]


def test_wide_writes_do_not_fail():
    assert ended(SLEEP_CONTROL, 0xFFFFFFFF, 4) == [Ending.OFF]
    assert ended(KEYBOARD_COMMAND, 0xFEFE, 2) == []


def test_nobody_is_at_the_keyboard_and_the_rest_reads_as_nothing():
    power, ports = Power(lambda how: None), Ports()
    for first in (KEYBOARD_COMMAND, RESET_CONTROL, SLEEP_CONTROL, SLEEP_STATUS):
        ports.attach_several(first, 1, power, offset=first)
    assert [
        ports.read(port, 1) for port in (KEYBOARD_COMMAND, RESET_CONTROL, SLEEP_CONTROL, SLEEP_STATUS)
    ] == [
        0xFF,
        0,
        0,
        0,
    ]
    assert ports.read(KEYBOARD_COMMAND, 4) == 0xFFFFFFFF
