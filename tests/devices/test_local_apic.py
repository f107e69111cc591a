"""The local APIC by its registers: what waits, what is served, in both modes, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.arch import Vector
from quire.arch.apic import APIC_BASE, ApicRegister, DeliveryMode
from quire.devices import APIC_PAGE, ApicBus, LocalApic
from quire.devices.apic_bus import Interrupt
from quire.vcpu import Event

GP = Event.exception(Vector.GP, 0)
PAGED = APIC_BASE.encode(EN=1, BSP=1, base=APIC_PAGE)
ON = 0x1FF
MASKED = 1 << 16


class Clock:
    share = 1
    time = 0

    def now(self) -> int:
        return self.time

    def spend(self, nanoseconds: int) -> None: ...


def by_msrs() -> LocalApic:
    return LocalApic(0, ApicBus())


def by_page(clock: Clock | None = None) -> LocalApic:
    made = LocalApic(0, ApicBus(), clock, base=PAGED)
    made.write(0xF0, ON, 4)
    return made


def send(apic: LocalApic, *vectors: int, level: bool = False) -> None:
    for vector in vectors:
        apic.take(Interrupt(vector, DeliveryMode.FIXED, 0, level=level))


def bits(apic: LocalApic, first: ApicRegister) -> list[int]:
    """Return the vectors of ISR, TMR or IRR."""
    words = [apic.read(first + number << 4, 4) for number in range(8)]
    return [32 * number + bit for number, word in enumerate(words) for bit in range(32) if word >> bit & 1]


def test_after_reset():
    apic = LocalApic(3, ApicBus(), base=PAGED)
    read = {index: apic.read(index << 4, 4) for index in range(0x40)}
    assert {index: value for index, value in read.items() if value} == {
        0x02: 3 << 24,
        0x03: 0x00060014,
        0x0E: 0xFFFFFFFF,
        0x0F: 0xFF,
        0x2F: MASKED,
        **dict.fromkeys(range(0x32, 0x38), MASKED),
    }


def test_the_highest_is_delivered_and_the_end_is_of_the_highest():
    apic = by_page()
    send(apic, 0x31, 0x52, 0x45)
    assert bits(apic, ApicRegister.IRR) == [0x31, 0x45, 0x52] and apic.next_vector() == 0x52
    apic.accept(0x52)
    assert bits(apic, ApicRegister.ISR) == [0x52] and apic.next_vector() is None
    send(apic, 0x53, 0x61)
    assert apic.next_vector() == 0x61
    apic.accept(0x61)
    assert apic.read(0xA0, 4) == 0x60
    apic.write(0xB0, 0, 4)
    assert bits(apic, ApicRegister.ISR) == [0x52] and apic.next_vector() is None
    apic.write(0xB0, 0, 4)
    assert apic.next_vector() == 0x53
    apic.write(0xB0, 0, 4)
    assert bits(apic, ApicRegister.IRR) == [0x31, 0x45, 0x53]


@given(
    st.sets(st.integers(16, 255), max_size=6), st.sets(st.integers(16, 255), max_size=3), st.integers(0, 255)
)
def test_priorities_by_the_manual(waiting, serving, task):
    """SDM 3A §10.8.3 and §10.8.3.1."""
    apic = by_page()
    for vector in serving:
        apic.accept(vector)
    send(apic, *waiting)
    apic.write(0x80, task, 4)
    top = max(serving, default=0) >> 4
    assert apic.read(0xA0, 4) == apic.priority == (task if task >> 4 >= top else top << 4)
    ready = [vector for vector in waiting if vector >> 4 > max(task >> 4, top)]
    assert apic.next_vector() == max(ready, default=None)
    assert apic.task_priority == task >> 4


def test_who_is_off_delivers_nothing_and_masks_its_own():
    apic = by_page()
    apic.write(0x350, 0x40, 4)
    send(apic, 0x40)
    apic.write(0xF0, 0xFF, 4)
    assert apic.next_vector() is None and apic.read(0x350, 4) == 0x40 | MASKED
    apic.write(0x350, 0x41, 4)
    assert apic.read(0x350, 4) == 0x41 | MASKED
    apic.write(0xF0, ON, 4)
    assert apic.next_vector() == 0x40 and apic.read(0x350, 4) == 0x41 | MASKED


def test_vectors_of_exceptions_are_errors():
    apic = by_page()
    send(apic, 15)
    apic.write(0x300, 1 << 18 | 3, 4)
    assert not bits(apic, ApicRegister.IRR) and apic.read(0x280, 4) == 0
    apic.write(0x280, 0, 4)
    assert apic.read(0x280, 4) == 1 << 6 | 1 << 5
    apic.write(0x280, 0, 4)
    assert apic.read(0x280, 4) == 0


def test_a_level_is_shown_until_the_next_edge():
    apic = by_page()
    send(apic, 0x44, level=True)
    assert bits(apic, ApicRegister.TMR) == [0x44]
    send(apic, 0x44)
    assert bits(apic, ApicRegister.TMR) == []


def test_messages_that_are_no_interrupts():
    apic = by_page()
    apic.take(Interrupt(0, DeliveryMode.NMI, 0))
    assert apic.nmi
    apic.take(Interrupt(0x12, DeliveryMode.STARTUP, 0))
    assert apic.startup == 0x12
    apic.take(Interrupt(0, DeliveryMode.INIT, 0))
    assert apic.init and apic.startup is None
    apic.take(Interrupt(0x40, DeliveryMode.SMI, 0))
    assert not bits(apic, ApicRegister.IRR)


def test_the_end_of_an_init_is_ignored_and_init_resets():
    apic = by_page()
    apic.write(0x300, 1 << 18 | 1 << 15 | 5 << 8, 4)
    assert not apic.init
    send(apic, 0x40)
    apic.reset()
    assert not bits(apic, ApicRegister.IRR) and apic.read(0xF0, 4) == 0xFF and apic.base == PAGED


def test_the_timer_delivers_what_its_entry_says_unless_it_is_masked():
    clock = Clock()
    apic = by_page(clock)
    apic.write(0x3E0, 0b1011, 4)
    for entry, delivered in ((0x60, [0x60]), (MASKED | 0x61, [])):
        apic.write(0x320, entry, 4)
        apic.write(0x380, 5, 4)
        assert (apic.read(0x380, 4), apic.read(0x390, 4)) == (5, 5)
        apic.expire()
        assert not bits(apic, ApicRegister.IRR)
        clock.time += 200
        apic.expire()
        assert bits(apic, ApicRegister.IRR) == delivered and apic.read(0x390, 4) == 0
        for vector in delivered:
            apic.accept(vector)


def test_a_page_of_another_mode_is_not_there():
    apic = by_msrs()
    assert apic.read(0x20, 4) == -1
    apic.write(0x80, 0x20, 4)
    assert apic.priority == 0
    apic = by_page()
    assert apic.read(0x24, 4) == 0 and apic.read(0xB0, 4) == 0
    apic.write(0x84, 0x20, 4)
    assert apic.priority == 0


@pytest.mark.parametrize("number", range(0x800, 0x840))
def test_msrs_that_are_there(number):
    apic, index = by_msrs(), number - 0x800
    readable = {
        0x02,
        0x03,
        0x08,
        0x0A,
        0x0D,
        0x0F,
        0x28,
        0x2F,
        0x30,
        *range(0x32, 0x3A),
        0x3E,
        *range(0x10, 0x28),
    }
    assert (apic.read_msr(number) == GP) == (index not in readable)
    writable = {0x08, 0x0B, 0x0F, 0x28, 0x2F, 0x30, *range(0x32, 0x39), 0x3E, 0x3F}
    value = 0x40 if index not in (0x0B, 0x28) else 0
    assert (apic.write_msr(number, value) == GP) == (index not in writable)
    paged = by_page()
    assert paged.read_msr(number) == paged.write_msr(number, value) == GP


@pytest.mark.parametrize(
    ("number", "value"),
    [(0x808, 1 << 32), (0x80B, 1), (0x828, 1), (0x830, 1 << 12), (0x830, 1 << 20), (0x83F, 0x100)],
)
def test_values_that_are_refused(number, value):
    assert by_msrs().write_msr(number, value) == GP


def test_an_interrupt_to_itself():
    apic = by_msrs()
    assert apic.write_msr(0x83F, 0x77) is None and apic.next_vector() == 0x77


@pytest.mark.parametrize("before", [0, 2, 3])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_moves_between_modes(before, after):
    """SDM 3A figure 10-27: modes by EN and EXTD."""
    word = [APIC_BASE.encode(EN=mode >> 1, EXTD=mode & 1, base=APIC_PAGE) for mode in range(4)]
    apic = LocalApic(0, ApicBus(), base=word[before])
    send(apic, 0x40)
    legal = (before, after) in {(0, 0), (0, 2), (2, 2), (2, 3), (2, 0), (3, 3), (3, 0)}
    assert apic.write_base(word[after]) == (None if legal else GP)
    assert apic.base == (word[after] if legal else word[before])
    turned_off = legal and before != 0 and after == 0
    assert bool(apic._requested) != turned_off
    assert apic.write_base(word[3] | 1) == GP


def test_who_runs_the_guest_hears_of_what_can_be_delivered():
    apic = by_page()
    heard: list[int | None] = []
    apic._bus.heard = lambda: heard.append(apic.next_vector())
    apic._bus.send(Interrupt(0x45, DeliveryMode.FIXED, 0))
    apic.accept(0x45)
    send(apic, 0x31)
    apic.write(0xB0, 0, 4)
    apic.write(0x80, 0x40, 4)
    apic.write(0x80, 0x20, 4)
    apic.task_priority = 0
    apic._bus.send(Interrupt(0x50, DeliveryMode.FIXED, 7))
    assert heard == [0x45, 0x31, 0x31, 0x31]
    other = by_msrs()
    other._bus.heard = lambda: heard.append(other.next_vector())
    other.write_msr(0x83F, 0x77)
    assert heard[4:] == [0x77]
