"""Frames that a guest gives back: the host has them again, and what is read there afterwards is zero."""

from __future__ import annotations

import pytest
from dirty_guests import NoCpu

from quire.machine import GuestConfig, Machine, reclaim
from quire.observe import DirtyLog, DirtyWay
from quire.testing import FailurePlan

MEMORY = 8 << 20


class ForgetfulCpu(NoCpu):
    """Notes of what code is to be forgotten."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.forgotten = []

    def forget_code(self, hpa, length):
        self.forgotten.append((hpa, length))


def make(mmu: str, **options) -> Machine:
    return Machine(GuestConfig(mmu=mmu, memory=MEMORY, kind="machine", **options), ForgetfulCpu)


def put(machine: Machine, gpa: int, data: bytes) -> int:
    hpa = machine.mmu.reach(gpa, write=True)
    machine.host.memory.write(hpa, data)
    return hpa


@pytest.mark.parametrize("mmu", ["ept", "shadow"])
def test_frames_go_back_and_read_as_zero(mmu):
    machine = make(mmu)
    for gpa in (0x5000, 0x6000, 0x7000):
        frame = put(machine, gpa, b"secret")
    free = machine.host.pool.statistics().frames_free
    resident = machine.mmu.resident_bytes()
    assert reclaim(machine, [0x5000, 0x7008, 0x5000, 0x9000, MEMORY, 1 << 60]) == 2
    assert machine.mmu.resident_bytes() == resident - 0x2000
    assert machine.host.pool.statistics().frames_free >= free + 2
    assert machine.mmu.mapped.memory_map.target(0x7000) is None
    assert machine.vcpu.cpu.forgotten[-1] == (frame, 0x1000)
    memory = machine.host.memory
    assert bytes(memory.read(machine.mmu.reach(0x6000), 6)) == b"secret"
    for gpa in (0x5000, 0x7000):
        assert bytes(memory.read(machine.mmu.reach(gpa), 6)) == bytes(6)
    assert machine.mmu.resident_bytes() == resident
    machine.close()


def test_a_failure_leaves_each_page_given_or_kept():
    machine = make("ept")
    for gpa in (0x5000, 0x6000, 0x7000):
        put(machine, gpa, b"kept")
    with FailurePlan(2, sites=["unmap"]) as plan, pytest.raises(Exception) as found:
        reclaim(machine, [0x5000, 0x6000, 0x7000])
    assert found.value is plan.error
    mapped = machine.mmu.mapped
    assert [mapped.memory_map.target(gpa) is not None for gpa in (0x5000, 0x6000, 0x7000)] == [
        False,
        True,
        True,
    ]
    assert sorted(mapped.blocks) == [0x6000, 0x7000]
    machine.close()


@pytest.mark.parametrize("options", [{"mmu": "native"}, {"mmu": "ept", "host_page": 2 << 20}])
def test_where_a_frame_is_not_one_pages_nothing_goes_back(options):
    machine = make(**options)
    hpa = put(machine, 0x5000, b"kept")
    assert reclaim(machine, [0x5000]) == 0
    assert bytes(machine.host.memory.read(hpa, 4)) == b"kept" and machine.mmu.reach(0x5000) == hpa
    machine.close()


def test_while_writes_are_logged_nothing_goes_back():
    machine = make("ept")
    put(machine, 0x5000, b"kept")
    DirtyLog(machine, DirtyWay.WRITE_PROTECT)
    assert reclaim(machine, [0x5000]) == 0
    machine.close()
