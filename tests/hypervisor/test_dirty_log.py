"""Dirty logging: what is refused, each of Quire's own writes, clears, large pages, rings, failures unwound."""

import numpy as np
import pytest
from dirty_guests import NoCpu, as_set, machine_of, make, write_user

from quire.arch import EPT_PTE, Access, ExitReason
from quire.errors import MisuseError
from quire.exits.handlers import GuestStopped
from quire.machine import GuestConfig, Hypervisor
from quire.memory import OutOfFrames, OwnerKind
from quire.mmu import Host
from quire.mmu.backed import BackedMmu
from quire.observe import DirtyPages, DirtyWay, audit_host
from quire.paging import Rights
from quire.testing import sweep_failures
from quire.vcpu import Exit

RW = Rights.READ | Rights.WRITE
EVERY = [("ept", way) for way in DirtyWay] + [("shadow", DirtyWay.WRITE_PROTECT)]
LARGE = 2 << 20
GVA = 0x400000


def page(hypervisor: Hypervisor, gva: int = GVA) -> int:
    """Map a page at `gva`; return its frame."""
    mmu = hypervisor.mmu
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
    hypervisor = make(mmu)
    with pytest.raises(MisuseError) as refused:
        hypervisor.log_dirty(way)
    assert str(refused.value) == message
    hypervisor.close()


def test_misuse_says_what_to_do() -> None:
    hypervisor = make()
    with hypervisor.log_dirty(DirtyWay.DIRTY_BITS) as log:
        for call, message in (
            (
                lambda: hypervisor.log_dirty(DirtyWay.PML),
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
    with hypervisor.log_dirty(DirtyWay.PML) as log:
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
    hypervisor.close()


def test_eptp_without_flags_has_no_dirty_bits() -> None:
    hypervisor = make()
    vmcs = hypervisor.vcpu.vmcs
    vmcs.write("ept_pointer", vmcs.read("ept_pointer") & ~(1 << 6))
    hypervisor.follow_controls()
    with pytest.raises(MisuseError) as refused:
        hypervisor.log_dirty(DirtyWay.PML)
    assert str(refused.value) == (
        "EPT keeps no accessed and dirty flags, on which pml rests: set EPTP.AD, or log by write-protect"
    )
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT) as log:
        frame = page(hypervisor)
        write_user(machine_of(hypervisor), GVA, b"x")
        assert frame in log.harvest()
    hypervisor.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_each_write_of_quires_own_is_logged(mmu: str, way: DirtyWay) -> None:
    hypervisor = make(mmu)
    machine = machine_of(hypervisor)
    frame = page(hypervisor)
    machine.user(GVA, 1, Access.WRITE)
    other = page(hypervisor, GVA + 0x1000)
    machine.user(GVA + 0x1000, 1, Access.WRITE)
    gpa = frame << 12
    table = hypervisor.mmu.lookup(GVA).entry_address >> 12  # type: ignore[union-attr]
    with hypervisor.log_dirty(way) as log:
        assert not len(log.harvest())
        machine.user(GVA, 8, Access.READ)
        assert frame not in log.harvest(), "reading is no write"
        for write, found in (
            (lambda: write_user(machine, GVA + 8, b"user"), frame),
            (lambda: machine.physical(gpa, 4, write=True), frame),
            (lambda: hypervisor.mmu.reach(gpa, write=True), frame),
            (lambda: machine.protect(GVA, Rights.READ), table),
            (lambda: machine.protect(GVA, RW), table),
            (lambda: machine.unmap(GVA + 0x1000), table),
            (lambda: machine.free(other << 12, 4096), None),
        ):
            log.harvest()
            write()
            harvested = log.harvest()
            assert found is None or found in harvested
            assert other not in harvested
        again = machine.allocate(4096)
        assert again == other << 12, "the frame freed last"
        assert other in log.harvest(), "it was made zero"
        machine.map(GVA + (1 << 30), gpa, 4096, RW)  # new tables
        harvested = log.harvest()
        assert hypervisor.mmu.lookup(GVA + (1 << 30)).entry_address >> 12 in harvested  # type: ignore[union-attr]
        assert frame not in harvested
        machine.physical(gpa, 4)
        assert not len(log.harvest())
    assert hypervisor.mmu.log is None and hypervisor.dirty_log is None
    hypervisor.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_a_page_written_between_harvest_and_clear_comes_again(mmu: str, way: DirtyWay) -> None:
    hypervisor = make(mmu)
    machine = machine_of(hypervisor)
    frames = [page(hypervisor, GVA + 0x1000 * n) for n in range(4)]
    with hypervisor.log_dirty(way) as log:
        for n in range(3):
            write_user(machine, GVA + 0x1000 * n, b"1")
        first = log.harvest(clear=False)
        assert [frame in first for frame in frames] == [True, True, True, False]
        assert as_set(log.harvest(clear=False).frames()) >= set(frames[:3]), "it stays until it is cleared"
        write_user(machine, GVA, b"2")
        log.clear(frames[:2])
        second = log.harvest(clear=False)
        assert [frame in second for frame in frames] == [True, False, True, False]
        log.clear(second)
        assert not any(frame in log.harvest(clear=False) for frame in frames)
        log.clear(np.zeros(32, np.uint64))
        assert repr(log.harvest()) == "<DirtyPages: 0 of 0x800 frames>"
    hypervisor.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_large_pages_are_split_and_joined(mmu: str, way: DirtyWay) -> None:
    hypervisor = make(mmu, host_page=LARGE)
    machine = machine_of(hypervisor)
    memory_map = hypervisor.mmu.memory_map  # type: ignore[attr-defined]
    frame = page(hypervisor)
    machine.user(GVA, 1, Access.WRITE)
    before = {one.start: one.rights for one in memory_map.mappings()}
    assert all(one.size == LARGE for one in memory_map.mappings())
    with hypervisor.log_dirty(way) as log:
        assert all(one.size == 4096 for one in memory_map.mappings())
        write_user(machine, GVA, b"1")
        hypervisor.mmu.reach(5 * LARGE // 2, write=True)  # type: ignore[attr-defined]
        harvested = log.harvest()
        assert frame in harvested and frame + 100 not in harvested and 5 * 256 in harvested
        assert all(one.size == 4096 for one in memory_map.mappings())
    after = {one.start: one.rights for one in memory_map.mappings()}
    assert all(one.size == LARGE for one in memory_map.mappings())
    assert after == before | {2 * LARGE: Rights(7)}
    assert all(not one.entry >> 52 for one in memory_map.mappings())
    hypervisor.close()


def test_rights_that_the_hypervisor_took_stay_taken() -> None:
    hypervisor = make()
    machine = machine_of(hypervisor)
    frame = page(hypervisor)
    machine.user(GVA, 1, Access.WRITE)
    ept = hypervisor.ept_mmu.ept
    ept.protect(frame << 12, Rights.READ)
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT) as log:
        with pytest.raises(GuestStopped):
            machine.user(GVA, 1, Access.WRITE)
        ept.protect(frame << 12, RW)
        machine.user(GVA, 1, Access.WRITE)
        assert frame in log.harvest(), "what the hypervisor changes counts as written"
        machine.user(GVA, 1, Access.WRITE)
        assert frame in log.harvest()
    assert ept.lookup(frame << 12).rights == RW  # type: ignore[union-attr]
    hypervisor.close()


@pytest.mark.parametrize("way", [DirtyWay.PML, DirtyWay.WRITE_PROTECT])
def test_a_ring_has_the_order_of_first_writes(way: DirtyWay) -> None:
    hypervisor = make()
    machine = machine_of(hypervisor)
    frames = [page(hypervisor, GVA + 0x1000 * n) for n in range(6)]
    for n in range(6):
        machine.user(GVA + 0x1000 * n, 1, Access.WRITE)
    with hypervisor.log_dirty(way) as log:
        machine.user(GVA, 1, Access.WRITE)
        ring = log.ring(100)
        for n in (3, 1, 3, 0, 5):
            machine.user(GVA + 0x1000 * n, 1, Access.WRITE)
        data = [frame for frame in ring.take() if frame in frames]
        assert data == [frames[n] for n in (0, 3, 1, 5)]
        machine.user(GVA + 0x3000, 1, Access.WRITE)
        assert ring.take() == [], "not noticed before the reset"
        assert ring.reset() >= 4
        machine.user(GVA + 0x3000, 1, Access.WRITE)
        assert [frame for frame in ring.take() if frame in frames] == [frames[3]]
        assert len(ring) == 0
    hypervisor.close()


@pytest.mark.parametrize("way", [DirtyWay.PML, DirtyWay.WRITE_PROTECT])
def test_quires_own_writes_do_not_stop_at_a_full_ring(way: DirtyWay) -> None:
    hypervisor = make()
    machine = machine_of(hypervisor)
    frames = [page(hypervisor, GVA + 0x1000 * n) for n in range(600)]
    with hypervisor.log_dirty(way) as log:
        ring = log.ring(64, lambda full: pytest.fail("Quire may be about to write what it has reached"))
        for n in range(600):
            machine.user(GVA + 0x1000 * n, 1, Access.WRITE)
        assert [frame for frame in ring.take() if frame in set(frames)] == frames
    hypervisor.close()


def test_a_violation_that_is_mended_already_is_none() -> None:
    hypervisor = make()
    machine = machine_of(hypervisor)
    frame = page(hypervisor)
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT) as log:
        machine.user(GVA, 1, Access.WRITE)
        hypervisor.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, frame << 12))
        assert frame in log.harvest()
        with pytest.raises(GuestStopped):
            hypervisor.handle_exit(Exit(ExitReason.EPT_VIOLATION, 4, frame << 12))
    hypervisor.close()


def test_exits_that_are_not_the_logs_go_where_they_went() -> None:
    hypervisor = make()
    heard = []
    hypervisor.handlers[ExitReason.EPT_VIOLATION] = lambda one, stop: heard.append(stop.gpa)
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT):
        hypervisor.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, 0x700000))
        assert heard == [0x700000]
    del hypervisor.handlers[ExitReason.EPT_VIOLATION]
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT):
        with pytest.raises(GuestStopped):
            hypervisor.handle_exit(Exit(ExitReason.EPT_VIOLATION, 2, 0x700000))
        mine = hypervisor.handlers[ExitReason.EPT_VIOLATION] = lambda one, stop: None
    assert hypervisor.handlers[ExitReason.EPT_VIOLATION] is mine, "somebody else's is left alone"
    hypervisor.close()


def owned(hypervisor: Hypervisor) -> dict[OwnerKind, int]:
    """How many frames of each kind there are, but of shadow tables, which come and go."""
    return {
        kind: hypervisor.host.pool.frames_of(kind)
        for kind in OwnerKind
        if kind not in (OwnerKind.FREE, OwnerKind.SHADOW_TABLE)
    }


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_every_failure_of_start_and_harvest_is_unwound(mmu: str, way: DirtyWay) -> None:
    def scenario() -> list[int]:
        hypervisor = made[0]
        machine = machine_of(hypervisor)
        found: list[int] = []
        with hypervisor.log_dirty(way) as log:
            write_user(machine, GVA, b"1")
            try:
                log.harvest(clear=False)
            except OutOfFrames:  # nothing is lost by that
                log.harvest(clear=False)
            write_user(machine, GVA + 0x1000, b"2")
            try:
                pages = log.harvest(clear=False)
            except OutOfFrames:
                pages = log.harvest(clear=False)
            log.clear(pages)
            found = [frames.index(n) for n in pages.frames().tolist() if n in frames]
            assert not any(n in log.harvest() for n in frames)
        return found

    def check() -> None:
        hypervisor = made[0]
        hypervisor.host.pool.audit()
        assert owned(hypervisor) == before
        assert {one.start: one.rights for one in hypervisor.mmu.memory_map.mappings()} == rights  # type: ignore[attr-defined]
        assert hypervisor.handlers == handlers and hypervisor.mmu.log is None
        write_user(machine_of(hypervisor), GVA, b"3")

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
    hypervisor = make(kind="machine")
    with hypervisor.log_dirty(DirtyWay.PML):
        with pytest.raises(MisuseError) as refused:
            Hypervisor(hypervisor.config, NoCpu, first=hypervisor)  # type: ignore[arg-type]
        assert str(refused.value) == (
            "A vCPU cannot join while the guest's writes are logged: leave the log first"
        )
        assert hypervisor.vcpus == [hypervisor]
    hypervisor.close()


@pytest.mark.parametrize(("mmu", "way"), EVERY)
def test_a_guest_that_ends_takes_its_log_along(mmu: str, way: DirtyWay) -> None:
    host = Host.for_guest(8 << 20, 4096)
    config = GuestConfig(mmu=mmu, memory=8 << 20)
    hypervisor = Hypervisor(config, NoCpu, host=host)  # type: ignore[arg-type]
    log = hypervisor.log_dirty(way)
    page(hypervisor)
    hypervisor.close()
    assert host.pool.frames_of(OwnerKind.FREE) == host.pool.frame_count
    host.pool.audit()
    log.close()
    host.close()


def test_a_page_that_the_log_cannot_take_is_not_left_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor = make("ept")
    mmu = hypervisor.mmu
    assert isinstance(mmu, BackedMmu)
    with hypervisor.log_dirty(DirtyWay.WRITE_PROTECT) as log:
        monkeypatch.setattr(log, "backed", lambda gpa, size: (_ for _ in ()).throw(OSError("no room")))
        with pytest.raises(OSError, match="no room"):
            mmu.back(0x300000)
        monkeypatch.undo()
        assert mmu.memory_map.target(0x300000) is None
        assert audit_host(hypervisor.host, [hypervisor]).breaches == []
        assert mmu.back(0x300000)
