"""Access tracking: accessed frames against what was accessed, ages, histograms, large pages, failures unwound."""

import hypothesis.strategies as st
import pytest
from dirty_guests import machine_of, make, tables_of, write_user
from hypothesis import given, settings

from quire.arch import Access
from quire.errors import MisuseError
from quire.machine import Machine
from quire.memory import OutOfFrames
from quire.observe import AccessTracker, DirtyLog, DirtyWay, WorkingSet
from quire.paging import Rights
from quire.testing import FailurePlan

RW = Rights.READ | Rights.WRITE
GVA = 0x400000


def pages(machine: Machine, count: int) -> list[int]:
    """Map `count` pages from GVA on and touch each; return their frames."""
    frames = []
    for n in range(count):
        gpa = machine.vcpu.mmu.allocate(4096)
        assert gpa is not None
        machine.vcpu.mmu.map(GVA + 0x1000 * n, gpa, 4096, RW)
        machine_of(machine).user(GVA + 0x1000 * n, 1, Access.READ)
        frames.append(gpa >> 12)
    return frames


@pytest.mark.parametrize(
    ("mmu", "message"),
    [
        ("native", "The native Mmu keeps no accessed flags of guest memory: make the guest with mmu='ept'"),
        ("shadow", "The shadow Mmu keeps no accessed flags of guest memory: make the guest with mmu='ept'"),
    ],
)
def test_only_ept_has_flags(mmu: str, message: str) -> None:
    machine = make(mmu)
    with pytest.raises(MisuseError) as refused:
        AccessTracker(machine)
    assert str(refused.value) == message
    machine.close()


def test_misuse_says_what_to_do() -> None:
    machine = make()
    with AccessTracker(machine):
        with pytest.raises(MisuseError) as refused:
            AccessTracker(machine)
        assert str(refused.value) == "Accesses are tracked already: close that tracker first"
    vmcs = machine.vcpu.vmcs
    vmcs.write("ept_pointer", vmcs.read("ept_pointer") & ~(1 << 6))
    machine.vcpu.follow_controls()
    with pytest.raises(MisuseError) as refused:
        AccessTracker(machine)
    assert str(refused.value) == "EPT keeps no accessed flags: set EPTP.AD first"
    machine.close()


@given(rounds=st.lists(st.sets(st.integers(0, 7)), max_size=9), logged=st.booleans(), checked=st.booleans())
@settings(max_examples=20, deadline=None)
def test_samples_and_ages_are_those_of_the_accesses(
    rounds: list[set[int]], logged: bool, checked: bool
) -> None:
    machine = make(check_flushes=checked)
    kernel_view = machine_of(machine)
    frames = pages(machine, 8)
    log = DirtyLog(machine, DirtyWay.WRITE_PROTECT) if logged else None
    last = dict.fromkeys(range(8), 0)
    with AccessTracker(machine) as tracker:
        for number, touched in enumerate(rounds, 1):
            for n in touched:
                if n % 2:
                    write_user(kernel_view, GVA + 0x1000 * n, b"x")
                else:
                    kernel_view.user(GVA + 0x1000 * n, 1, Access.READ)
                last[n] = number
            found = set(tracker.sample(number / 10).tolist())
            assert {frames.index(frame) for frame in found & set(frames)} == touched
            assert found - set(frames) <= tables_of(machine)
            assert tracker.series[-1] == WorkingSet(number / 10, 4096 * len(found))
            ages = dict(zip(*(array.tolist() for array in tracker.ages()), strict=True))
            assert [ages[frames[n]] for n in range(8)] == [number - last[n] for n in range(8)]
            idle = tracker.idle()
            assert sum(idle.values()) == 4096 * len(ages)
            for least, size in idle.items():
                inside = [
                    age for age in ages.values() if max(age, 1).bit_length() == max(least, 1).bit_length()
                ]
                assert size == 4096 * sum((age > 0) == (least > 0) for age in inside)
    if machine.vcpu.flush_check is not None:
        assert machine.vcpu.flush_check.findings == []
    if log is not None:
        log.close()
    machine.close()


def test_a_large_page_is_accessed_as_a_whole() -> None:
    machine = make(host_page=2 << 20)
    frames = pages(machine, 1)
    machine_of(machine).physical(4 << 20, 1)
    with AccessTracker(machine) as tracker:
        machine_of(machine).user(GVA, 1, Access.READ)
        assert tracker.sample(1.0).tolist() == list(range(512))
        assert frames[0] < 512
        assert tracker.sample(2.0).size == 0
        assert tracker.idle() == {0: 0, 1: 2 << 20, 2: 2 << 20}
        tracker.close()
    machine.close()


def test_a_sample_that_fails_changes_nothing() -> None:
    machine = make()
    frames = pages(machine, 2)
    with AccessTracker(machine) as tracker:
        machine_of(machine).user(GVA, 1, Access.READ)
        with FailurePlan(1), pytest.raises(OutOfFrames):
            tracker.sample(1.0)
        assert tracker.series == []
        assert frames[0] in tracker.sample(2.0)
    with FailurePlan(1), pytest.raises(OutOfFrames):
        AccessTracker(machine)
    AccessTracker(machine).close()
    machine.close()


def test_a_guest_without_memory_has_no_idle_memory() -> None:
    machine = make(kind="machine")
    with AccessTracker(machine) as tracker:
        assert tracker.idle() == {}
    machine.close()
