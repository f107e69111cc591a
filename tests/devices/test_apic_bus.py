"""Who gets a message: by ID, logical destination, shorthand and priority."""

from __future__ import annotations

import pytest

from quire.arch import LOW32
from quire.arch.apic import APIC_BASE, DeliveryMode, Shorthand
from quire.devices import APIC_PAGE, ApicBus, IoApic, LocalApic
from quire.devices.apic_bus import Interrupt

ICR, ICR_HIGH, LDR, DFR, SPURIOUS = 0x300, 0x310, 0xD0, 0xE0, 0xF0
X2APIC_ICR = 0x830
FIXED, LOWEST = DeliveryMode.FIXED, DeliveryMode.LOWEST
PAGED = APIC_BASE.encode(EN=1, base=APIC_PAGE)


class Machine:
    """So many local APICs, in x2APIC mode or with a page."""

    def __init__(self, count: int, *, paged: bool = False) -> None:
        self.bus = ApicBus()
        self.apics = [LocalApic(number, self.bus, base=PAGED if paged else None) for number in range(count)]
        if paged:
            for one in self.apics:
                one.write(SPURIOUS, 0x1FF, 4)

    def took(self, vector: int = 0x40) -> list[int]:
        """Return who takes `vector` now, and have them take it."""
        found = [one for one in self.apics if one.next_vector() == vector]
        for one in found:
            one.accept(vector)
            one.write_msr(0x80B, 0) if one.is_x2apic else one.write(0xB0, 0, 4)
        return [one.number for one in found]


@pytest.mark.parametrize(
    ("destination", "logical", "who"),
    [
        (1, False, [1]),
        (9, False, []),
        (LOW32, False, [0, 1, 2]),
        (LOW32, True, [0, 1, 2]),
        (0b101, True, [0, 2]),
        (0x10001, True, []),
        (0, True, []),
    ],
)
def test_destinations(destination, logical, who):
    machine = Machine(3)
    machine.bus.send(Interrupt(0x40, FIXED, destination, logical))
    assert machine.took() == who and machine.bus.sent == len(who)


@pytest.mark.parametrize(
    ("shorthand", "who"),
    [(Shorthand.SELF, [1]), (Shorthand.ALL, [0, 1, 2]), (Shorthand.OTHERS, [0, 2]), (Shorthand.NONE, [2])],
)
def test_shorthands(shorthand, who):
    machine = Machine(3)
    machine.apics[1].write_msr(X2APIC_ICR, 2 << 32 | shorthand << 18 | 0x40)
    assert machine.took() == who


def test_the_lowest_priority_is_one_and_the_first_of_equals():
    machine = Machine(3)
    message = Interrupt(0x40, LOWEST, LOW32)
    machine.bus.send(message)
    assert machine.took() == [0]
    machine.apics[0].task_priority = 3
    machine.apics[1].task_priority = 2
    machine.bus.send(message)
    assert machine.took() == [2]
    machine.bus.send(Interrupt(0x40, LOWEST, 77))
    assert machine.took() == []


def test_a_cluster_of_eight_is_not_everybody():
    """In x2APIC mode destinations have 32 bits: 0xff names the first eight of cluster 0 (SDM 3A §10.12.10)."""
    machine = Machine(12)
    machine.apics[0].write_msr(X2APIC_ICR, 0xFF << 32 | 1 << 11 | 0x40)
    assert machine.took() == list(range(8))
    machine.apics[0].write_msr(X2APIC_ICR, 0xFF << 32 | 0x40)
    assert machine.took() == []
    machine.apics[0].write_msr(X2APIC_ICR, LOW32 << 32 | 0x40)
    assert machine.took() == list(range(12))


@pytest.mark.parametrize("logical", [0, 1])
def test_eight_ones_are_everybody_where_destinations_have_eight_bits(logical):
    machine = Machine(3, paged=True)
    machine.apics[0].write(ICR_HIGH, 0xFF << 24, 4)
    machine.apics[0].write(ICR, logical << 11 | 0x40, 4)
    assert machine.took() == [0, 1, 2]
    for paged in (False, True):
        machine = Machine(3, paged=paged)
        level = [False]
        chip = IoApic(machine.bus)
        changed = chip.attach(4, lambda level=level: level[0])
        for register, value in ((0x19, 0xFF << 24), (0x18, logical << 11 | 0x40)):
            chip.write(0, register, 4)
            chip.write(0x10, value, 4)
        level[0] = True
        changed()
        assert machine.took() == [0, 1, 2]


@pytest.mark.parametrize(
    ("model", "logical", "who"),
    [
        (0xFFFFFFFF, {0: 1, 1: 2, 2: 4}, {1: [0], 6: [1, 2], 8: []}),
        (0x0FFFFFFF, {0: 0x11, 1: 0x12, 2: 0x21}, {0x11: [0], 0x13: [0, 1], 0x23: [2], 0x31: []}),
    ],
    ids=["flat", "clusters"],
)
def test_logical_destinations_of_pages(model, logical, who):
    machine = Machine(3, paged=True)
    for number, value in logical.items():
        machine.apics[number].write(DFR, model, 4)
        machine.apics[number].write(LDR, value << 24, 4)
    for destination, expected in who.items():
        machine.bus.send(Interrupt(0x40, FIXED, destination, True))
        assert machine.took() == expected


def test_the_end_of_a_level_is_told_to_all_listeners():
    bus, told = ApicBus(), []

    class Listener:
        def end(self, vector: int) -> None:
            told.append(vector)

    bus.listeners += [Listener(), Listener()]
    apic = LocalApic(0, bus)
    for level, vector in ((True, 0x40), (False, 0x41)):
        bus.send(Interrupt(vector, FIXED, 0, level=level))
        apic.accept(vector)
        apic.write_msr(0x80B, 0)
    assert told == [0x40, 0x40]
