"""The I/O APIC by its registers: which level becomes which message, against a twin of its pins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quire.arch.apic import DeliveryMode
from quire.devices import ApicBus, IoApic
from quire.devices.apic_bus import Interrupt
from quire.devices.io_apic import PINS

SELECT, WINDOW, EOI = 0x00, 0x10, 0x40
LEVEL, MASKED, REMOTE = 1 << 15, 1 << 16, 1 << 14


class Pins:
    """An I/O APIC whose pins a test drives, and the messages that it has sent."""

    def __init__(self) -> None:
        self.bus = ApicBus()
        self.sent: list[Interrupt] = []
        self.bus.send = lambda interrupt, *_: self.sent.append(interrupt)  # type: ignore[method-assign]
        self.chip = IoApic(self.bus)
        self.levels = [False] * PINS
        self.changed = [self.chip.attach(pin, lambda pin=pin: self.levels[pin]) for pin in range(PINS)]

    def drive(self, pin: int, level: bool) -> None:
        self.levels[pin] = level
        self.changed[pin]()

    def get(self, register: int) -> int:
        self.chip.write(SELECT, register, 4)
        return self.chip.read(WINDOW, 4)

    def set(self, register: int, value: int) -> None:
        self.chip.write(SELECT, register, 4)
        self.chip.write(WINDOW, value, 4)

    def entry(self, pin: int) -> int:
        return self.get(0x10 + 2 * pin) | self.get(0x11 + 2 * pin) << 32

    def program(self, pin: int, low: int, destination: int = 0) -> None:
        self.set(0x11 + 2 * pin, destination << 24)
        self.set(0x10 + 2 * pin, low)

    def vectors(self) -> list[int]:
        found, self.sent = [one.vector for one in self.sent], []
        return found


def test_after_reset():
    pins = Pins()
    assert (pins.get(0), pins.get(1), pins.get(2)) == (0, 23 << 16 | 0x20, 0)
    assert {pins.entry(pin) for pin in range(PINS)} == {MASKED}
    assert [pins.get(register) for register in (0x03, 0x0F, 0x40, 0xFF)] == [0] * 4
    pins.drive(3, True)
    assert not pins.sent


def test_registers_keep_what_may_be_written():
    pins = Pins()
    pins.set(0, 0xFFFFFFFF)
    assert pins.get(0) == pins.get(2) == 0x0F000000
    for pin in range(PINS):
        pins.program(pin, 0xFFFFFFFF, 0xAB)
        assert pins.entry(pin) == 0xAB << 56 | 0x1AFFF
    pins.chip.write(SELECT, 0x105, 4)
    assert pins.chip.read(SELECT, 4) == 5
    assert pins.chip.read(0x20, 4) == 0


def test_the_message_is_what_the_entry_says():
    pins = Pins()
    pins.program(2, 0x31 | 1 << 11 | 1 << 8 | LEVEL, 0x3)
    pins.program(9, 0x32 | 4 << 8, 0x1)
    pins.program(10, 0x33 | 3 << 8, 0x1)  # a mode that is reserved
    for pin in (2, 9, 10):
        pins.drive(pin, True)
    assert pins.sent == [
        Interrupt(0x31, DeliveryMode.LOWEST, 3, True, True),
        Interrupt(0x32, DeliveryMode.NMI, 1, False, False),
    ]


def test_an_edge_is_told_once_and_lost_while_masked():
    pins = Pins()
    pins.program(4, 0x40)
    pins.drive(4, True)
    pins.drive(4, True)
    assert pins.vectors() == [0x40]
    pins.drive(4, False)
    pins.drive(4, True)
    assert pins.vectors() == [0x40]
    pins.drive(4, False)
    pins.program(4, 0x40 | MASKED)
    pins.drive(4, True)
    pins.program(4, 0x40)
    assert pins.vectors() == []


def test_a_level_asks_again_until_it_is_down():
    pins = Pins()
    pins.program(5, 0x41 | LEVEL)
    pins.drive(5, True)
    pins.drive(5, True)
    assert pins.vectors() == [0x41] and pins.entry(5) & REMOTE
    pins.bus.end(0x42)
    assert pins.vectors() == []
    pins.bus.end(0x41)
    assert pins.vectors() == [0x41]
    pins.drive(5, False)
    pins.chip.write(EOI, 0x41, 4)
    assert pins.vectors() == [] and not pins.entry(5) & REMOTE


def test_a_level_that_is_up_is_told_when_it_is_unmasked():
    pins = Pins()
    pins.program(5, 0x41 | LEVEL | MASKED)
    pins.drive(5, True)
    assert pins.vectors() == []
    pins.program(5, 0x41 | LEVEL)
    assert pins.vectors() == [0x41]


def test_devices_that_share_a_pin_are_one_line():
    pins, other = Pins(), [False]
    changed = pins.chip.attach(5, lambda: other[0])
    pins.program(5, 0x41 | LEVEL)
    pins.drive(5, True)
    other[0] = True
    changed()
    pins.drive(5, False)
    assert pins.vectors() == [0x41]
    pins.bus.end(0x41)
    assert pins.vectors() == [0x41]
    other[0] = False
    changed()
    pins.bus.end(0x41)
    assert pins.vectors() == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("drive"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("program"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0x40, 0x43), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_pins_as_the_twin(steps):
    pins = Pins()
    up, level, masked, serving = [False] * 3, [False] * 3, [True] * 3, [False] * 3
    for step, which, what in steps:
        expected = []
        if step == "drive":
            rises, up[which] = what and not up[which], what
            pins.drive(which, what)
            ask = {which} if rises or level[which] else set()
        elif step == "program":
            level[which], masked[which] = bool(what & 1), bool(what & 2)
            serving[which] &= level[which]
            pins.set(0x10 + 2 * which, 0x40 + which | LEVEL * level[which] | MASKED * masked[which])
            ask = {which} if level[which] else set()
        else:
            ask = {pin for pin in range(3) if serving[pin] and 0x40 + pin == which}
            serving = [one and pin not in ask for pin, one in enumerate(serving)]
            pins.bus.end(which)
        for pin in sorted(ask):
            if up[pin] and not masked[pin] and not serving[pin]:
                expected.append(0x40 + pin)
                serving[pin] = level[pin]
        assert pins.vectors() == expected
        assert [bool(pins.entry(pin) & REMOTE) for pin in range(3)] == serving
