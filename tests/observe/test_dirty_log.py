"""Dirty logging: what is refused, each of Quire's own writes, clears, large pages, rings, failures unwound."""

import numpy as np
import pytest
from dirty_guests import NoCpu, as_set, machine_of, make, write_user

from quire.arch import EPT_PTE, Access, ExitReason
from quire.errors import MisuseError
from quire.exits import RESUME, ExitContext, GuestStopped, Next
from quire.machine import GuestConfig, Machine
from quire.memory import OutOfFrames, OwnerKind
from quire.mmu import Host
from quire.mmu.backed import BackedMmu
from quire.observe import DirtyLog, DirtyPages, DirtyWay, audit_host
from quire.paging import Rights
from quire.testing import sweep_failures
from quire.vcpu import Exit

RW = Rights.READ | Rights.WRITE
EVERY = [("ept", way) for way in DirtyWay] + [("shadow", DirtyWay.WRITE_PROTECT)]
LARGE = 2 << 20
GVA = 0x400000


def page(machine: Machine, gva: int = GVA) -> int:
    """Map a page at `gva`; return its frame."""
    mmu = machine.vcpu.mmu
    gpa = mmu.allocate(4096)
    assert gpa is not None
    mmu.map(gva, gpa, 4096, RW)
    return gpa >> 12


@pytest.mark.parametrize(
    ("mmu", "way", "message"),
    [
        (
            "native",
            DirtyWay.PML,
            "The native Mmu has no memory map to log writes in: make the guest with mmu='ept', or with mmu='shadow' "
            "for write-protect",
        ),
        (
            "shadow",
            DirtyWay.PML,
            "Under shadow no hardware walks the memory map, so that pml finds nothing: log by write-protect, or make "
            "the guest with mmu='ept'",
        ),
        (
            "shadow",
            DirtyWay.DIRTY_BITS,
            "Under shadow no hardware walks the memory map, so that dirty-bits finds nothing: log by write-protect, "
            "or make the guest with mmu='ept'",
        ),
    ],
)
def test_a_way_that_an_mmu_does_not_have(mmu: str, way: DirtyWay, message: str) -> None:
    machine = make(mmu)
    with pytest.raises(MisuseError) as refused:
        DirtyLog(machine, way)
    assert str(refused.value) == message
    machine.close()


def test_misuse_says_what_to_do() -> None:
    machine = make()
    with DirtyLog(machine, DirtyWay.DIRTY_BITS) as log:
        for call, message in (
            (
                lambda: DirtyLog(machine, DirtyWay.PML),
                "The guest's writes are logged already: close that log first",
            ),
            (
                lambda: log.ring(8),
                "Logging by dirty-bits knows no order of writes: log by pml or write-protect",
            ),
            (lambda: log.clear([2048]), "The guest has no frame 0x800: give frames below 0x800"),
            (lambda: log.clear([-1]), "The guest has no frame -0x1: give frames below 0x800"),
        ):
            with pytest.raises(MisuseError) as refused:
                call()
            assert str(refused.value) == message
    with DirtyLog(machine, DirtyWay.PML) as log:
        with pytest.raises(MisuseError) as refused:
            log.ring(63)
        assert str(refused.value) == (
            "A ring of 63 frames may not hold what one instruction writes: give at least 64"
        )
        log.ring(64)
        for call, message in (
            (lambda: log.ring(64), "This log has a ring already: go on with that one"),
            (log.harvest, "This log fills a ring: take its entries, there is no bitmap to harvest"),
        ):
            with pytest.raises(MisuseError) as refused:
                call()
            assert str(refused.value) == message
    machine.close()


def test_eptp_without_flags_has_no_dirty_bits() -> None:
    machine = make()
    vmcs = machine.vcpu.vmcs
    vmcs.write("ept_pointer", vmcs.read("ept_pointer") & ~(1 << 6))
    machine.vcpu.follow_controls()
    with pytest.raises(MisuseError) as refused:
        DirtyLog(machine, DirtyWay.PML)
    assert str(refused.value) == (
        "EPT keeps no accessed and dirty flags, on which pml rests: set EPTP.AD, or log by write-protect"
    )
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT) as log:
        frame = page(machine)
        write_user(machine_of(machine), GVA, b"x")
        assert frame in log.harvest()
    machine.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_each_write_of_quires_own_is_logged(mmu: str, way: DirtyWay) -> None:
    machine = make(mmu)
    kernel_view = machine_of(machine)
    frame = page(machine)
    kernel_view.user(GVA, 1, Access.WRITE)
    other = page(machine, GVA + 0x1000)
    kernel_view.user(GVA + 0x1000, 1, Access.WRITE)
    gpa = frame << 12
    table = machine.vcpu.mmu.lookup(GVA).entry_address >> 12  # type: ignore[union-attr]
    with DirtyLog(machine, way) as log:
        assert not len(log.harvest())
        kernel_view.user(GVA, 8, Access.READ)
        assert frame not in log.harvest(), "reading is no write"
        for write, found in (
            (lambda: write_user(kernel_view, GVA + 8, b"user"), frame),
            (lambda: kernel_view.physical(gpa, 4, write=True), frame),
            (lambda: machine.vcpu.mmu.reach(gpa, write=True), frame),
            (lambda: kernel_view.protect(GVA, Rights.READ), table),
            (lambda: kernel_view.protect(GVA, RW), table),
            (lambda: kernel_view.unmap(GVA + 0x1000), table),
            (lambda: kernel_view.free(other << 12, 4096), None),
        ):
            log.harvest()
            write()
            harvested = log.harvest()
            assert found is None or found in harvested
            assert other not in harvested
        again = kernel_view.allocate(4096)
        assert again == other << 12, "the frame freed last"
        assert other in log.harvest(), "it was made zero"
        kernel_view.map(GVA + (1 << 30), gpa, 4096, RW)  # new tables
        harvested = log.harvest()
        assert machine.vcpu.mmu.lookup(GVA + (1 << 30)).entry_address >> 12 in harvested  # type: ignore[union-attr]
        assert frame not in harvested
        kernel_view.physical(gpa, 4)
        assert not len(log.harvest())
    assert machine.vcpu.mmu.log is None and machine.dirty_log is None
    machine.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_a_page_written_between_harvest_and_clear_comes_again(mmu: str, way: DirtyWay) -> None:
    machine = make(mmu)
    kernel_view = machine_of(machine)
    frames = [page(machine, GVA + 0x1000 * n) for n in range(4)]
    with DirtyLog(machine, way) as log:
        for n in range(3):
            write_user(kernel_view, GVA + 0x1000 * n, b"1")
        first = log.harvest(clear=False)
        assert [frame in first for frame in frames] == [True, True, True, False]
        assert as_set(log.harvest(clear=False).frames()) >= set(frames[:3]), "it stays until it is cleared"
        write_user(kernel_view, GVA, b"2")
        log.clear(frames[:2])
        second = log.harvest(clear=False)
        assert [frame in second for frame in frames] == [True, False, True, False]
        log.clear(second)
        assert not any(frame in log.harvest(clear=False) for frame in frames)
        log.clear(np.zeros(32, np.uint64))
        assert repr(log.harvest()) == "<DirtyPages: 0 of 0x800 frames>"
    machine.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_large_pages_are_split_and_joined(mmu: str, way: DirtyWay) -> None:
    machine = make(mmu, host_page=LARGE)
    kernel_view = machine_of(machine)
    memory_map = machine.vcpu.mmu.memory_map  # type: ignore[attr-defined]
    frame = page(machine)
    kernel_view.user(GVA, 1, Access.WRITE)
    before = {one.start: one.rights for one in memory_map.mappings()}
    assert all(one.size == LARGE for one in memory_map.mappings())
    with DirtyLog(machine, way) as log:
        assert all(one.size == 4096 for one in memory_map.mappings())
        write_user(kernel_view, GVA, b"1")
        machine.vcpu.mmu.reach(5 * LARGE // 2, write=True)  # type: ignore[attr-defined]
        harvested = log.harvest()
        assert frame in harvested and frame + 100 not in harvested and 5 * 256 in harvested
        assert all(one.size == 4096 for one in memory_map.mappings())
    after = {one.start: one.rights for one in memory_map.mappings()}
    assert all(one.size == LARGE for one in memory_map.mappings())
    assert after == before | {2 * LARGE: Rights(7)}
    assert all(not one.entry >> 52 for one in memory_map.mappings())
    machine.close()


def test_rights_that_the_hypervisor_took_stay_taken() -> None:
    machine = make()
    kernel_view = machine_of(machine)
    frame = page(machine)
    kernel_view.user(GVA, 1, Access.WRITE)
    ept = machine.vcpu.mmu.memory_map
    ept.protect(frame << 12, Rights.READ)
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT) as log:
        with pytest.raises(GuestStopped):
            kernel_view.user(GVA, 1, Access.WRITE)
        ept.protect(frame << 12, RW)
        kernel_view.user(GVA, 1, Access.WRITE)
        assert frame in log.harvest(), "what the hypervisor changes counts as written"
        kernel_view.user(GVA, 1, Access.WRITE)
        assert frame in log.harvest()
    assert ept.lookup(frame << 12).rights == RW  # type: ignore[union-attr]
    machine.close()


@pytest.mark.parametrize("way", [DirtyWay.PML, DirtyWay.WRITE_PROTECT])
def test_a_ring_has_the_order_of_first_writes(way: DirtyWay) -> None:
    machine = make()
    kernel_view = machine_of(machine)
    frames = [page(machine, GVA + 0x1000 * n) for n in range(6)]
    for n in range(6):
        kernel_view.user(GVA + 0x1000 * n, 1, Access.WRITE)
    with DirtyLog(machine, way) as log:
        kernel_view.user(GVA, 1, Access.WRITE)
        ring = log.ring(100)
        for n in (3, 1, 3, 0, 5):
            kernel_view.user(GVA + 0x1000 * n, 1, Access.WRITE)
        data = [frame for frame in ring.take() if frame in frames]
        assert data == [frames[n] for n in (0, 3, 1, 5)]
        kernel_view.user(GVA + 0x3000, 1, Access.WRITE)
        assert ring.take() == [], "not noticed before the reset"
        assert ring.reset() >= 4
        kernel_view.user(GVA + 0x3000, 1, Access.WRITE)
        assert [frame for frame in ring.take() if frame in frames] == [frames[3]]
        assert len(ring) == 0
    machine.close()


@pytest.mark.parametrize("way", [DirtyWay.PML, DirtyWay.WRITE_PROTECT])
def test_quires_own_writes_do_not_stop_at_a_full_ring(way: DirtyWay) -> None:
    machine = make()
    kernel_view = machine_of(machine)
    frames = [page(machine, GVA + 0x1000 * n) for n in range(600)]
    with DirtyLog(machine, way) as log:
        ring = log.ring(64, lambda full: pytest.fail("Quire may be about to write what it has reached"))
        for n in range(600):
            kernel_view.user(GVA + 0x1000 * n, 1, Access.WRITE)
        assert [frame for frame in ring.take() if frame in set(frames)] == frames
    machine.close()


def test_a_violation_that_is_mended_already_is_none() -> None:
    machine = make()
    kernel_view = machine_of(machine)
    frame = page(machine)
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT) as log:
        kernel_view.user(GVA, 1, Access.WRITE)
        machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, frame << 12))
        assert frame in log.harvest()
        with pytest.raises(GuestStopped):
            machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 4, frame << 12))
    machine.close()


def test_exits_that_are_not_the_logs_go_where_they_went() -> None:
    machine = make()
    heard = []

    def hear(context: ExitContext, stop: Exit) -> Next:
        heard.append(stop.gpa)
        return RESUME

    machine.handlers[ExitReason.EPT_VIOLATION] = hear
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT):
        machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, 0x700000))
        assert heard == [0x700000]
    del machine.handlers[ExitReason.EPT_VIOLATION]
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT):
        with pytest.raises(GuestStopped):
            machine.vcpu.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, 0x700000))
        mine = machine.handlers[ExitReason.EPT_VIOLATION] = lambda context, stop: RESUME
    assert machine.handlers[ExitReason.EPT_VIOLATION] is mine, "somebody else's is left alone"
    machine.close()


def owned(machine: Machine) -> dict[OwnerKind, int]:
    """How many frames of each kind there are, but of shadow tables, which come and go."""
    return {
        kind: machine.host.pool.frames_of(kind)
        for kind in OwnerKind
        if kind not in (OwnerKind.FREE, OwnerKind.SHADOW_TABLE)
    }


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_every_failure_of_start_and_harvest_is_unwound(mmu: str, way: DirtyWay) -> None:
    def scenario() -> list[int]:
        machine = made[0]
        kernel_view = machine_of(machine)
        found: list[int] = []
        with DirtyLog(machine, way) as log:
            write_user(kernel_view, GVA, b"1")
            try:
                log.harvest(clear=False)
            except OutOfFrames:  # nothing is lost by that
                log.harvest(clear=False)
            write_user(kernel_view, GVA + 0x1000, b"2")
            try:
                pages = log.harvest(clear=False)
            except OutOfFrames:
                pages = log.harvest(clear=False)
            log.clear(pages)
            found = [frames.index(n) for n in pages.frames().tolist() if n in frames]
            assert not any(n in log.harvest() for n in frames)
        return found

    def check() -> None:
        machine = made[0]
        machine.host.pool.audit()
        assert owned(machine) == before
        assert {one.start: one.rights for one in machine.vcpu.mmu.memory_map.mappings()} == rights  # type: ignore[attr-defined]
        assert machine.handlers == handlers and machine.vcpu.mmu.log is None
        write_user(machine_of(machine), GVA, b"3")

    made = [make(mmu, host_page=LARGE)]
    frames = [page(made[0], GVA + 0x1000 * n) for n in range(2)]
    for n in range(2):
        machine_of(made[0]).user(GVA + 0x1000 * n, 1, Access.WRITE)
    before = owned(made[0])
    rights = {one.start: one.rights for one in made[0].mmu.memory_map.mappings()}  # type: ignore[attr-defined]
    handlers = dict(made[0].handlers)
    outcomes = sweep_failures(scenario, check)
    assert {"protect", "split", "allocate"} <= {one.site for one in outcomes}
    made[0].close()


@pytest.mark.jitless
def test_pages_are_bits_in_order() -> None:
    flags = np.zeros(130, np.bool_)
    flags[[0, 63, 64, 129]] = True
    pages = DirtyPages.of(flags)
    assert pages.bitmap.tolist() == [1 << 63 | 1, 1, 2]
    assert pages.frames().tolist() == [0, 63, 64, 129]
    assert len(pages) == 4 and 129 in pages and 128 not in pages and -1 not in pages and 500 not in pages


@pytest.mark.jitless
@pytest.mark.parametrize("way", list(DirtyWay))
def test_a_leaf_armed_soiled_and_released(way: DirtyWay) -> None:
    for rights in range(8):
        entry = EPT_PTE.encode(MT=6, addr=0x5000) | rights
        armed = way.arm(np.array([entry], np.uint64))
        writable = rights & 2 or way is not DirtyWay.WRITE_PROTECT
        assert not int(armed[0]) & way.flag
        soiled = way.soil(int(armed[0]))
        assert bool(soiled & way.flag) == bool(writable)
        assert way.soil(soiled) == soiled
        assert way.arm(np.array([soiled], np.uint64)) == armed
        released = way.release(armed)
        assert int(released[0]) == entry
        assert int(way.release(np.array([soiled], np.uint64))[0]) & 7 == rights


def test_no_vcpu_joins_while_writes_are_logged() -> None:
    machine = make(kind="machine")
    with DirtyLog(machine, DirtyWay.PML):
        with pytest.raises(MisuseError) as refused:
            machine.add_vcpu()
        assert str(refused.value) == (
            "A vCPU cannot join while the guest's writes are logged: leave the log first"
        )
        assert machine.vcpus == [machine.vcpu]
    machine.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_a_guest_that_ends_takes_its_log_along(mmu: str, way: DirtyWay) -> None:
    host = Host.for_guest(8 << 20, 4096)
    config = GuestConfig(mmu=mmu, memory=8 << 20)
    machine = Machine(config, NoCpu, host=host)  # type: ignore[arg-type]
    log = DirtyLog(machine, way)
    page(machine)
    machine.close()
    assert host.pool.frames_of(OwnerKind.FREE) == host.pool.frame_count
    host.pool.audit()
    log.close()
    host.close()


def test_a_page_that_the_log_cannot_take_is_not_left_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = make("ept")
    mmu = machine.vcpu.mmu
    assert isinstance(mmu, BackedMmu)
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT) as log:
        monkeypatch.setattr(log, "backed", lambda gpa, size: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OSError, match="no room"):
            mmu.back(0x300000)
        monkeypatch.undo()
        assert mmu.memory_map.target(0x300000) is None
        assert audit_host(machine.host, [machine]).breaches == []
        assert mmu.back(0x300000)
