"""Guest-physical regions: kinds and rights by real walks, protect, logs, moves, failures unwound."""

import hypothesis.strategies as st
import numpy as np
import pytest
from dirty_guests import NoCpu
from hypothesis import given, settings
from sampling import some

from quire.arch import EPT_PTE, EPT_VIOLATION_QUALIFICATION, Access, MemoryType, PagingMode
from quire.errors import MisuseError
from quire.exits import GuestStopped
from quire.machine import GuestConfig, Machine, protect_memory
from quire.machine.migration import migrate, node_of
from quire.memory import HostMemory, OutOfFrames, OwnerKind, Pool
from quire.memory.numa import Topology
from quire.mmu import BackedMmu, Host, MemoryRegions, NumaConfig, Region, RegionKind
from quire.observe import DirtyLog, DirtyWay
from quire.paging import Context, Rights, Status, reference_walk
from quire.testing import FailurePlan, sweep_failures
from quire.tlb import Operation

R, W, X = Rights.READ, Rights.WRITE, Rights.EXECUTE
READ_ONLY, MMIO, ALIAS = RegionKind.READ_ONLY, RegionKind.MMIO, RegionKind.ALIAS
MEMORY = 8 << 20
LARGE = 2 << 20
ROM = bytes(range(256)) * 20  # a page and a quarter
LAYOUT = (
    Region(0, 0x100000),
    Region(0x100000, 0x4000, READ_ONLY, contents=ROM),
    Region(0x200000, 0x2000, MMIO),
    Region(0x300000, 0x8000, rights=R | W, memory_type=MemoryType.UC),
    Region(0x400000, 0x4000, ALIAS, rights=R, target=0x302000),
    Region(0x500000, 0x1000, ALIAS, target=0x101000, rights=R | X),
)
NEEDED = {Access.READ: R, Access.WRITE: W, Access.FETCH: X}


def make(regions: tuple[Region, ...] = LAYOUT, mmu: str = "ept", **options) -> Machine:
    config = GuestConfig(mmu=mmu, memory=MEMORY, kind="machine", regions=regions, **options)
    return Machine(config, NoCpu)  # type: ignore[arg-type]


def backed(machine: Machine) -> BackedMmu:
    assert isinstance(machine.vcpu.mmu, BackedMmu)
    return machine.vcpu.mmu


def regions_of(machine: Machine) -> MemoryRegions:
    assert machine.vcpu.mmu.regions is not None
    return machine.vcpu.mmu.regions


def says(call) -> str:
    with pytest.raises(MisuseError) as refused:
        call()
    return str(refused.value)


def test_protect_says_what_to_do() -> None:
    machine = make()
    for arguments, message in (
        (
            (0x1000, 0x10, R),
            "0x10 bytes from 0x1000 are no host pages: give multiples of 0x1000, at least one",
        ),
        ((0x1000, 0, R), "0x0 bytes from 0x1000 are no host pages: give multiples of 0x1000, at least one"),
        (
            (-0x1000, 0x1000, R),
            "0x1000 bytes from -0x1000 are no host pages: give multiples of 0x1000, at least one",
        ),
        (
            (0x103000, 0x2000, R),
            "0x103000 to 0x105000 has a hole in it: protect what a region covers, one range at a time",
        ),
        (
            (0x200000, 0x1000, R),
            "MMIO 0x200000 to 0x202000 has no memory to protect: protect RAM, READ_ONLY or ALIAS",
        ),
        (
            (0xFF000, 0x2000, R | W),
            "READ_ONLY 0x100000 to 0x104000 cannot have READ+WRITE rights: make it RAM to have it written",
        ),
        (
            (0x1000, 0x1000, W),
            "RAM 0x0 to 0x100000 cannot have WRITE rights: a leaf of EPT that can be written and not read is a "
            "misconfiguration (SDM 3C §28.3.3.1); give READ too",
        ),
    ):
        assert says(lambda arguments=arguments: protect_memory(machine, *arguments)) == message
    machine.close()
    plain = make(())
    assert says(lambda: protect_memory(plain, 0, 0x1000, R)) == (
        "The guest has no regions whose rights could change: make it with GuestConfig regions"
    )
    plain.close()


def meets(machine: Machine, gpa: int, access: Access) -> tuple[Status, int]:
    """Access `gpa` without paging, as hardware under ept or the shadow's software walk would; mend what can be."""
    mmu = backed(machine)
    context = mmu.guest_context.copy()
    context[Context.MODE] = PagingMode.NONE
    for _ in range(3):
        record = reference_walk(machine.host.memory.words, context, gpa, access)
        if record.status is Status.OK:
            assert record.hpa is not None
            return record.status, record.hpa
        if mmu.memory_map.target(gpa) is not None or not mmu.back(gpa):
            return record.status, record.error
    raise AssertionError("mended again and again")


def allowed(gpa: int) -> Rights:
    """The model: what LAYOUT allows at `gpa`, read from its text."""
    if gpa < 0x100000:
        return R | W | X
    if 0x100000 <= gpa < 0x104000 or 0x500000 <= gpa < 0x501000:
        return R | X
    if 0x300000 <= gpa < 0x308000:
        return R | W
    return R if 0x400000 <= gpa < 0x404000 else Rights(0)


@pytest.mark.jitless
@pytest.mark.parametrize("mmu", ["ept", "shadow"])
def test_every_kind_allows_what_it_says(mmu: str) -> None:
    layout = LAYOUT if mmu == "ept" else (*LAYOUT[:3], Region(0x300000, 0x8000, rights=R | W))
    machine = make(layout, mmu)
    edges = [edge for one in LAYOUT for edge in (one.start - 1, one.start, one.end - 1, one.end) if edge >= 0]
    for gpa in [*edges, MEMORY - 1, MEMORY, (1 << 32) - 1]:
        rights = allowed(gpa)
        if mmu == "shadow" and gpa >= 0x400000:
            rights = Rights(0)
        for access, needed in NEEDED.items():
            status, value = meets(machine, gpa, access)
            if needed & rights:
                assert status is Status.OK
                continue
            assert status is Status.EPT_VIOLATION
            said = EPT_VIOLATION_QUALIFICATION.decode(value)
            assert (said["R"], said["W"], said["X"]) == tuple(int(access is one) for one in NEEDED)
            assert value >> 3 & 7 == rights
    machine.close()


def test_contents_types_and_aliases() -> None:
    machine = make()
    mmu, memory = backed(machine), machine.host.memory
    for gpa in (0x500000, 0x400000, 0x100000, 0x300000):  # an alias is touched before what it shows
        assert meets(machine, gpa, Access.READ)[0] is Status.OK
    target = mmu.memory_map.target
    assert target(0x500000) == target(0x101000)
    assert target(0x400000) == target(0x302000)
    hpa = target(0x100000)
    assert hpa is not None
    assert memory.read(hpa, 4096) == ROM[:4096]
    hpa = target(0x101000)
    assert hpa is not None
    assert memory.read(hpa, 4096) == ROM[4096:] + bytes(8192 - len(ROM))
    types = {gpa: mmu.memory_map.lookup(gpa) for gpa in (0x300000, 0x400000, 0x100000)}
    assert [EPT_PTE.get(one.entry, "MT") for one in types.values() if one] == [
        *(MemoryType.UC, MemoryType.WB, MemoryType.WB)
    ]
    assert not any(one.entry & EPT_PTE.mask("IPAT") for one in types.values() if one)
    assert sorted(mmu.blocks) == [0x100000, 0x101000, 0x300000, 0x302000]
    assert mmu.resident_bytes() == 4 << 12
    assert mmu.reach(0x100010, write=True) == (target(0x100000) or 0) + 0x10, "Quire may write a ROM"
    machine.close()
    machine.host.pool.audit()


def test_software_reaches_no_hole() -> None:
    for gpa in (0x200000, 0x180000):
        machine = make()
        with pytest.raises(GuestStopped) as stopped:
            backed(machine).reach(gpa, write=True)
        assert str(stopped.value).endswith(f"; GPA {gpa:#x}")
        machine.close()


def leaf(machine: Machine, gpa: int) -> Rights:
    found = backed(machine).memory_map.lookup(gpa)
    return Rights(0) if found is None else found.rights


@pytest.mark.parametrize("mmu", ["ept", "shadow"])
@pytest.mark.parametrize("page", [4 << 10, LARGE])
def test_protect_changes_map_and_data_and_flushes(mmu: str, page: int) -> None:
    regions = (Region(0, LARGE), Region(LARGE, LARGE, rights=R | W, wxorx=True, contents=b"here"))
    machine = make(regions, mmu, host_page=page)
    seen: list[Operation] = []
    machine.vcpu.tlb.observers.append(lambda operation, *rest, **more: seen.append(operation))
    mmu_ = backed(machine)
    assert mmu_.back(LARGE) and mmu_.back(0)
    protect_memory(machine, LARGE, page, R | X)
    assert leaf(machine, LARGE) == R | X and leaf(machine, 0) == R | W | X
    assert (Operation.INVEPT_CONTEXT if mmu == "ept" else Operation.INVVPID_CONTEXT) in seen
    first, *rest = regions_of(machine).regions[1:]
    assert (first.start, first.size, first.rights, first.contents) == (LARGE, page, R | X, b"here")
    assert [(one.start, one.size, one.rights, one.contents) for one in rest] == (
        [] if page == LARGE else [(LARGE + page, LARGE - page, R | W, b"")]
    )
    assert says(lambda: protect_memory(machine, LARGE, page, R | W | X)) == (
        f"RAM {LARGE:#x} to {LARGE + page:#x} cannot have READ+WRITE+EXECUTE rights: W^X allows WRITE or EXECUTE, "
        "never both"
    )
    protect_memory(machine, LARGE, LARGE, R | W)
    if page < LARGE:
        assert mmu_.back(LARGE + page)
        assert leaf(machine, LARGE + page) == R | W
    machine.close()
    machine.host.pool.audit()


def test_w_xor_x_holds_for_memory_not_for_addresses() -> None:
    layout = (
        Region(0, 0x4000, rights=R | W),
        Region(0x8000, 0x2000, ALIAS, target=0x1000, rights=R),
    )
    machine = make(layout, wxorx=True)
    text = (
        "ALIAS 0x8000 to 0x9000 and RAM 0x0 to 0x4000 show the same memory, which would be writable and executable: "
        "W^X allows one of the two; protect the other first"
    )
    assert says(lambda: protect_memory(machine, 0x8000, 0x1000, R | X)) == text
    protect_memory(machine, 0x1000, 0x1000, R)
    protect_memory(machine, 0x8000, 0x1000, R | X)
    assert says(lambda: protect_memory(machine, 0x1000, 0x1000, R | W)) == text.replace(
        "RAM 0x0 to 0x4000", "RAM 0x1000 to 0x2000"
    )
    machine.close()


@settings(max_examples=some(60, 30), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 31), st.integers(1, 8), st.sampled_from([R, R | W, R | X])), max_size=8)
)
def test_any_order_of_protects_is_what_each_page_says(steps: list[tuple[int, int, Rights]]) -> None:
    regions = MemoryRegions(
        [Region(0, 0x10000, rights=R | W), Region(0x10000, 0x10000, rights=R)],
        memory=MEMORY,
        width=46,
        host_page=0x1000,
        wxorx=True,
    )
    model = {page: R | W if page < 16 else R for page in range(32)}
    for first, count, rights in steps:
        count = min(count, 32 - first)
        regions.put(regions.protected(first << 12, count << 12, rights))
        model.update(dict.fromkeys(range(first, first + count), rights))
    for page, rights in model.items():
        region = regions.at(page << 12)
        assert region is not None and region.rights == rights
    ends = [one.end for one in regions.regions]
    assert [one.start for one in regions.regions] == [0, *ends[:-1]] and ends[-1] == 0x20000


@pytest.mark.parametrize("way", list(DirtyWay))
def test_logs_know_every_address_and_leave_a_rom_one(way: DirtyWay) -> None:
    machine = make()
    mmu = backed(machine)
    assert mmu.back(0x302000) and mmu.back(0x100000)
    with DirtyLog(machine, way) as log:
        assert mmu.back(0x400000) and mmu.back(0x101000), "while logging too"
        log.harvest()
        mmu.reach(0x302000, write=True)
        assert set(log.harvest().frames().tolist()) == {0x302, 0x400}
        for _ in range(2):
            mmu.reach(0x100000, write=True)
            assert log.harvest().frames().tolist() == [0x100], "Quire wrote a ROM"
        assert mmu.back(0x102000)
        assert 0x102 not in log.harvest().frames(), "nothing but zeros"
        assert not log.violated(0x100000), "no log gives a ROM the right to be written"
        assert leaf(machine, 0x100000) == R | X
        protect_memory(machine, 0x302000, 0x1000, R)
        log.harvest()
        assert not log.violated(0x302000)
    assert leaf(machine, 0x302000) == R
    assert leaf(machine, 0x100000) == R | X
    machine.close()
    machine.host.pool.audit()


def test_large_pages_are_split_for_a_log_and_joined_with_their_rights_and_type() -> None:
    regions = (
        Region(0, LARGE, rights=R | W, memory_type=MemoryType.WC),
        Region(LARGE, LARGE, READ_ONLY, contents=b"rom"),
        Region(2 * LARGE, LARGE, ALIAS, rights=R, target=0),
    )
    machine = make(regions, host_page=LARGE)
    mmu = backed(machine)
    assert mmu.back(0)
    with DirtyLog(machine, DirtyWay.WRITE_PROTECT) as log:
        assert mmu.back(LARGE) and mmu.back(2 * LARGE)
        assert log.harvest().frames().tolist() == [LARGE >> 12], "the page that has contents"
        mmu.reach(0x3000, write=True)
        assert log.harvest().frames().tolist() == [3, (2 * LARGE >> 12) + 3]
    found = list(mmu.memory_map.mappings())
    assert [(one.size, one.rights) for one in found] == [(LARGE, R | W), (LARGE, R | X), (LARGE, R)]
    assert [EPT_PTE.get(one.entry, "MT") for one in found] == [MemoryType.WC, MemoryType.WB, MemoryType.WB]
    assert found[0].target == found[2].target
    machine.close()
    machine.host.pool.audit()


def test_a_page_moves_with_all_its_addresses() -> None:
    numa = NumaConfig(Topology.declared([16 << 20] * 2))
    machine = make(numa=numa)
    mmu = backed(machine)
    assert mmu.back(0x400000) and mmu.back(0x303000)
    here = node_of(machine, 0x400000)
    assert here is not None and here == node_of(machine, 0x302000)
    before = mmu.memory_map.target(0x302000)
    assert migrate(machine, 0x400000, 1 - here)
    target = mmu.memory_map.target
    assert target(0x302000) == target(0x400000) != before
    assert leaf(machine, 0x302000) == R | W and leaf(machine, 0x400000) == R
    assert migrate(machine, 0x303000, 1 - here), "whose alias nobody has touched"
    assert target(0x401000) is None
    assert mmu.back(0x401000)
    assert target(0x401000) == target(0x303000)
    machine.close()
    machine.host.pool.audit()


def test_a_failure_leaves_nothing_behind() -> None:
    memory = HostMemory(8192 << 12)
    host = Host(memory, Pool(0, 8192, memory))

    def scenario() -> list[tuple[int, int]]:
        config = GuestConfig(memory=MEMORY, kind="machine", regions=LAYOUT)
        machine = Machine(config, NoCpu, host=host)  # type: ignore[arg-type]
        try:
            mmu = backed(machine)
            mmu.back(0x500000)
            mmu.back(0x400000)
            protect_memory(machine, 0x300000, 0x4000, R)
            found = mmu.memory_map.leaves(0, MEMORY)
            rights = (found.entries & np.uint64(7)).tolist()
            return list(zip(found.starts.tolist(), rights, strict=True))
        finally:
            machine.close()

    def check() -> None:
        host.pool.audit()
        assert host.pool.frames_of(OwnerKind.FREE) == 8192

    outcomes = sweep_failures(scenario, check)
    assert {one.site for one in outcomes} == {"map frame records", "allocate", "map", "protect"}
    assert all(one.text for one in outcomes)
    host.close()


def test_a_protect_that_fails_changed_nothing() -> None:
    machine = make()
    assert backed(machine).back(0x300000)
    before = regions_of(machine).regions
    with FailurePlan(1, {"protect"}), pytest.raises(OutOfFrames):
        protect_memory(machine, 0x300000, 0x1000, R)
    assert regions_of(machine).regions == before
    assert leaf(machine, 0x300000) == R | W
    machine.close()


def test_vcpus_share_regions_and_machines_have_names() -> None:
    machine = make(name="first")
    other = machine.add_vcpu()
    assert other.mmu.regions is machine.vcpu.mmu.regions
    assert other.mmu.back(0)
    owner = machine.host.pool.owner_of(backed(machine).blocks[0])
    assert str(owner) == "GUEST_PAGE 'guest pages of first'"
    protect_memory(machine, 0, 0x1000, R)
    assert leaf(machine, 0) == R
    assert int(machine.vcpu.mmu.context[Context.VERSION]) > 0
    machine.close()
    machine.host.pool.audit()
