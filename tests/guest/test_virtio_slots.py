"""Virtio devices of a PC: where they are, that they work between turns, and that code they write is executed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from silent import Silent
from virtio_driver import Driver, Ram

from quire.arch import ExitReason
from quire.devices import ApicBus, Bus, IoApic
from quire.devices.virtio import BlockDevice, DiskMode, EntropyDevice, NoMemory, open_disk
from quire.devices.virtio.registers import Register
from quire.errors import MisuseError
from quire.guest.boot.boot_spec import boot_config
from quire.guest.boot.long_mode import build_tables, start_long_mode
from quire.guest.boot.memory import DriverMemory
from quire.guest.boot.pc import Pc
from quire.guest.boot.virtio_slots import FIRST_PAGE, VirtioSlots
from quire.guest.boot.zero_page import DESCRIPTORS, STACK

MEMORY = 16 << 20
ORIGIN, CODE = 0x200000, 0x100000
#: Where the disk's first sector goes: behind the header of the request.
TARGET = ORIGIN + 0x8010
RETURNS_1, RETURNS_7 = bytes.fromhex("b001c3"), bytes.fromhex("b007c3")
#: call rdx; mov dword ptr [rbx], 0; wait: cmp word ptr [ORIGIN + 0xc02], 1; jne wait; call rdx; out 0xf4, al; hlt
PROGRAM = bytes.fromhex("ffd2 c70300000000 66833c25020c200001 75f5 ffd2 e6f4 f4")
#: mov dword ptr [rbx], 0; sti; hlt
SLEEPS = bytes.fromhex("c70300000000 fb f4")


@pytest.fixture
def disk(tmp_path: Path):
    path = tmp_path / "disk"
    path.write_bytes(RETURNS_7.ljust(512, b"\xcc") + bytes(3584))
    made = open_disk(str(path), DiskMode.READ_ONLY)
    yield made
    made.close()


def make(disk, mmu: str, program: bytes) -> tuple[Pc, Driver]:
    """Return a PC that is about to give notice of a request to read the first sector, to where a function is."""
    pc = Pc(boot_config(memory=MEMORY, mmu=mmu), lambda byte: None, Silent(), devices=[BlockDevice(disk)])
    ram = Ram(ORIGIN + 0x10000)
    driver = Driver(pc.virtio.transports[0], ram, origin=ORIGIN)
    driver.start()
    assert driver.offer([struct.pack("<IIQ", 0, 0, 0)], [512, 1])[0] == (TARGET, 512)
    ram.data[TARGET : TARGET + 3] = RETURNS_1
    pc.memory.write(ORIGIN, bytes(ram.data[ORIGIN:]))
    build_tables(pc.memory.write, 4 << 30, DESCRIPTORS)
    pc.memory.write(CODE, program)
    start_long_mode(pc.machine.vcpu, 0x10, 0x18, len(DESCRIPTORS))
    start = {"rip": CODE, "rsp": STACK, "rbx": FIRST_PAGE + Register.QUEUE_NOTIFY, "rdx": TARGET}
    pc.machine.vcpu.cpu.registers.write_many(start)
    # The notice that DRIVER_OK gives is taken back: the guest's own is to count.
    pc.virtio.transports[0]._notified.clear()
    return pc, driver


@pytest.mark.parametrize("mmu", ["native", "ept", "shadow"])
def test_a_guest_that_polls_gets_its_answer_and_executes_what_was_written(disk, mmu):
    pc, driver = make(disk, mmu, PROGRAM)
    pc.turns.run()
    assert pc.exit_port.status == 7
    assert pc.memory.read(TARGET, 513) == disk.read(0, 512) + b"\0"
    assert pc.memory.read(ORIGIN + 0xC02, 10) == struct.pack("<HII", 1, 0, 513)
    assert driver.transport.interrupts() and driver.transport.trouble is None
    if mmu != "native":
        assert pc.machine.vcpu.exits[
            ExitReason.EPT_VIOLATION if mmu == "ept" else ExitReason.EXCEPTION_OR_NMI
        ]
    pc.close()


def test_a_guest_that_halts_is_served_first(disk):
    pc, driver = make(disk, "ept", SLEEPS)
    pc.turns.run()
    assert pc.memory.read(ORIGIN + 0xC02, 2) == b"\1\0" and driver.transport.interrupts()
    pc.close()


def test_work_that_is_left_ends_turns_and_keeps_a_guest_awake(disk):
    pc, driver = make(disk, "ept", SLEEPS)
    driver.set(Register.QUEUE_NOTIFY, 0)
    assert pc.virtio.has_work and pc.blocks_left() == 1 and pc.idle()
    pc.virtio.work()
    assert not pc.virtio.has_work and pc.blocks_left() > 1 and not pc.idle()
    pc.close()


class Typed(Silent):
    """Somebody has typed these bytes."""

    is_open = True

    def __init__(self, data: bytes) -> None:
        self.data = data

    def look(self) -> None:
        pass

    def take(self, most: int) -> bytes:
        found, self.data = self.data[:most], self.data[most:]
        return found


def test_what_is_typed_is_for_the_serial_port_if_it_is_open_else_for_the_console():
    said = bytearray()
    typed = Typed(b"x" * 20)
    pc = Pc(boot_config(memory=MEMORY, mmu="native"), said.append, typed)
    ram = Ram(0x10000)
    driver = Driver(pc.virtio.transports[-1], ram)
    pc.virtio.transports[-1]._memory = ram
    driver.start()
    driver.offer([], [8], number=0)
    driver.offer([b"$"], [], number=1)
    pc.begin_turn(0, 1)
    assert (bytes(said), driver.used(0)[0], len(typed.data)) == (b"$", 0, 20)
    pc.serial.write(1, 1, 1)
    pc.begin_turn(0, 1)
    assert (driver.used(0)[0], len(typed.data)) == (0, 4)
    pc.serial.write(1, 0, 1)
    pc.begin_turn(0, 1)
    assert (driver.used(0), len(typed.data)) == ((1, [(0, 4)] + [(0, 0)] * 7), 0)
    pc.close()


def test_a_device_reaches_the_guests_memory_and_nothing_else(disk):
    pc, _ = make(disk, "ept", SLEEPS)
    memory = DriverMemory(pc.machine)
    memory.write(MEMORY - 2, b"ab")
    assert memory.read(MEMORY - 3, 3) == b"\0ab" and memory.read(MEMORY, 0) == b""
    for gpa, length in ((MEMORY - 1, 2), (MEMORY, 1), (FIRST_PAGE, 4), ((1 << 64) - 1, 1), (1 << 64, 1)):
        said = f"there is no memory at {gpa:#x} to {gpa + length:#x}: it ends at {MEMORY:#x}"
        for access in (lambda: memory.read(gpa, length), lambda: memory.write(gpa, bytes(length))):  # noqa: B023
            with pytest.raises(NoMemory) as found:
                access()
            assert str(found.value) == said
    assert memory.read(MEMORY - 2, 2) == b"ab"
    pc.close()


def test_each_has_a_page_and_a_pin_and_acpi_tells_of_them():
    bus = Bus()
    devices = [EntropyDevice(number) for number in range(3)]
    slots = VirtioSlots(bus, IoApic(ApicBus()), Ram(0), devices, lambda: None)
    assert [bus.read(FIRST_PAGE + 0x1000 * number + 8, 4) for number in range(4)] == [4, 4, 4, 0xFFFFFFFF]
    for number, text in enumerate(slots.described()):
        assert text[:2] == b"\x5b\x82" and text[3:7] == f"VR{number:02X}".encode()
        assert b"_HID\x0dLNRO0005\0" in text
        assert struct.pack("<BHBII", 0x86, 9, 1, 0xD0000000 + 0x1000 * number, 0x1000) in text
        assert struct.pack("<BHBBI", 0x89, 6, 1, 1, 5 + number) in text


def test_there_are_no_more_than_pins():
    with pytest.raises(MisuseError) as found:
        VirtioSlots(Bus(), IoApic(ApicBus()), Ram(0), [EntropyDevice(0)] * 20, lambda: None)
    assert str(found.value) == "20 virtio devices are more than the pins for them: give at most 19"
