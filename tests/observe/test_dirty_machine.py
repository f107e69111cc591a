"""Dirty logs against a copy of memory and a set of written pages: each way on the same guest, in any order."""

import hypothesis.strategies as st
import pytest
from dirty_guests import changed, machine_of, make, snapshot, tables_of, write_user
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sampling import some

from quire.arch import Access
from quire.observe import DirtyLog, DirtyWay
from quire.paging import Rights

RW = Rights.READ | Rights.WRITE
SLOTS = st.integers(0, 11)
REGION = 0x400000


class Subject:
    """One guest and its log; `written` is the model: data frames written since they were cleared."""

    def __init__(self, mmu: str, way: DirtyWay, host_page: int, check: bool) -> None:
        self.way = way
        self.machine = make(mmu, host_page=host_page, check_flushes=check)
        self.kernel_view = machine_of(self.machine)
        self.log: DirtyLog = DirtyLog(self.machine, way)
        self.pages: dict[int, int] = {}  # slot to frame
        self.used: set[int] = set()
        self.before = snapshot(self.machine)
        self.restart()

    def restart(self) -> None:
        self.log.close()
        self.log = DirtyLog(self.machine, self.way)
        self.before = snapshot(self.machine)
        self.written: set[int] = set()
        self.touched = tables_of(self.machine)
        self.reported: set[int] = set()

    def map(self, slot: int) -> None:
        gpa = self.kernel_view.allocate(4096)
        assert gpa is not None
        frame = gpa >> 12
        if frame in self.used:
            self.written.add(frame)  # it was made zero
        self.used.add(frame)
        self.kernel_view.map(REGION + (slot << 20), gpa, 4096, RW)
        self.pages[slot] = frame
        self.touched |= tables_of(self.machine)

    def unmap(self, slot: int) -> None:
        self.touched |= tables_of(self.machine)  # they are written before they are freed
        self.kernel_view.unmap(REGION + (slot << 20))
        self.kernel_view.free(self.pages.pop(slot) << 12, 4096)

    def write(self, slot: int, value: int, by_kernel: bool) -> None:
        data = bytes([value])
        if by_kernel:
            self.kernel_view.physical(self.pages[slot] << 12, 1, write=True)[:] = data
        else:
            write_user(self.kernel_view, REGION + (slot << 20), data)
        self.written.add(self.pages[slot])

    def harvest(self, clear: bool) -> set[int]:
        found = set(self.log.harvest(clear=clear).frames().tolist())
        now = snapshot(self.machine)
        differs = changed(self.before, now)
        assert differs <= found, "each page that differs is in the log"
        self.before = now
        self.reported |= self.written
        tables = tables_of(self.machine)
        self.touched |= tables  # a table may have been freed and be data now
        assert self.written <= found
        assert found - self.reported - self.touched == set(), "none that was not written"
        self.written = set()
        if clear:
            self.reported, self.touched = set(), set(tables)
        return found

    def clear(self, frames: list[int]) -> None:
        self.log.clear(frames)
        self.reported -= set(frames)


class DirtyMachine(RuleBasedStateMachine):
    """Several guests that do the same."""

    configurations = tuple(("ept", way, 4096, False) for way in DirtyWay)

    def __init__(self) -> None:
        super().__init__()
        self.subjects = [Subject(*one) for one in self.configurations]
        self.found: list[set[int]] = []

    def teardown(self) -> None:
        for one in self.subjects:
            if one.machine.vcpu.flush_check is not None:
                assert one.machine.vcpu.flush_check.findings == []
            one.machine.close()
            one.machine.host.pool.audit()

    @property
    def pages(self) -> dict[int, int]:
        return self.subjects[0].pages

    @rule(slot=SLOTS)
    def map(self, slot: int) -> None:
        if slot not in self.pages:
            for one in self.subjects:
                one.map(slot)

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), value=st.integers(0, 255), by_kernel=st.booleans())
    def write(self, data: st.DataObject, value: int, by_kernel: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.pages)))
        for one in self.subjects:
            one.write(slot, value, by_kernel)

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.pages)))
        views = [one.kernel_view.user(REGION + (slot << 20), 8, Access.READ) for one in self.subjects]
        assert len({bytes(view) for view in views if isinstance(view, memoryview)}) == 1

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), remove=st.booleans())
    def change(self, data: st.DataObject, remove: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.pages)))
        for one in self.subjects:
            if remove:
                one.unmap(slot)
            else:
                one.kernel_view.protect(REGION + (slot << 20), RW)

    @rule(clear=st.booleans())
    def harvest(self, clear: bool) -> None:
        found = [one.harvest(clear) for one in self.subjects]
        names = [one.machine.vcpu.mmu.name for one in self.subjects]
        logs = [pages for pages, mmu in zip(found, names, strict=True) if mmu == "ept"]
        assert all(pages == logs[0] for pages in logs), "every way finds the same"
        self.found = found

    @precondition(lambda self: self.found)
    @rule(every=st.integers(1, 3))
    def clear(self, every: int) -> None:
        for one, found in zip(self.subjects, self.found, strict=True):
            one.clear(sorted(found)[::every])

    @rule()
    def restart(self) -> None:
        for one in self.subjects:
            one.restart()
        self.found = []


class LargeMachine(DirtyMachine):
    configurations = tuple(("ept", way, 2 << 20, False) for way in DirtyWay)


class ShadowMachine(DirtyMachine):
    configurations = (
        ("shadow", DirtyWay.WRITE_PROTECT, 4096, False),
        ("shadow", DirtyWay.WRITE_PROTECT, 2 << 20, False),
        ("ept", DirtyWay.DIRTY_BITS, 4096, True),
    )


SETTINGS = settings(max_examples=some(10, 6), stateful_step_count=30, deadline=None)
for machine in (DirtyMachine, LargeMachine, ShadowMachine):
    machine.TestCase.settings = SETTINGS
TestDirty = DirtyMachine.TestCase
TestDirtyLarge = LargeMachine.TestCase
TestDirtyShadow = ShadowMachine.TestCase


@pytest.mark.parametrize("way", list(DirtyWay))
def test_a_checked_guest_misses_no_flush(way: DirtyWay) -> None:
    subject = Subject("ept", way, 4096, True)
    for slot in range(3):
        subject.map(slot)
    for value in range(3):
        for slot in range(3):
            subject.write(slot, value, False)
        subject.harvest(True)
    assert subject.machine.vcpu.flush_check is not None
    assert subject.machine.vcpu.flush_check.findings == []
    subject.machine.close()
