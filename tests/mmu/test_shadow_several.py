"""Shadows of one process guest's several vCPUs: what each follows, what each may still say, who exits for what."""

from collections.abc import Iterator

import pytest
from test_isolation_machine import QuietCpu

from quire.arch import PAGE_SIZE, Access, ExitReason
from quire.errors import InternalError
from quire.guest.counted_record import all_shadows
from quire.guest.kernel.processors import Processors
from quire.machine import GuestConfig, Machine
from quire.memory import OwnerKind
from quire.mmu import Host, ShadowMmu
from quire.mmu.shadow import ShadowOptions
from quire.paging import Context, Rights, Status
from quire.paging.shadow import ShadowPage, audit

MEMORY = 16 << 20
GVA = 0x40_0000
READ = Access.READ
VERSION = int(Context.VERSION)
ALL = Rights.READ | Rights.WRITE | Rights.EXECUTE
USABLE = Rights.READ | Rights.WRITE
_FAULT, _INVLPG, _CR3 = ExitReason.EXCEPTION_OR_NMI, ExitReason.INVLPG, ExitReason.CR_ACCESS


class HeedfulCpu(QuietCpu):
    """A Cpu that never runs and knows what it was told to forget."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.forgotten: list[int | None] = []

    def forget(self, gva: int | None) -> None:
        self.forgotten.append(gva)


class World:
    """A machine with `vcpus` vCPUs, the first at work, and one page at GVA that each of them has used."""

    def __init__(self, vcpus: int = 2, host: Host | None = None) -> None:
        config = GuestConfig(mmu="shadow", memory=MEMORY, vcpus=vcpus)
        self.machine = Machine(config, HeedfulCpu, host=host)  # type: ignore[arg-type]
        self.on = Processors(self.machine.vcpus)
        self.mmus = [one.mmu for one in self.machine.vcpus]
        self.shadows = [self.shadow(number) for number in range(vcpus)]
        self.gpa = self.page(GVA)
        for number in range(vcpus):
            self.on.go_to(number)
            assert self.sees(number) is not None
        self.on.go_to(0)
        for one in self.machine.vcpus:
            one.exits.clear()
            one.cpu.forgotten.clear()  # type: ignore[attr-defined]

    def shadow(self, number: int):
        mmu = self.mmus[number]
        assert isinstance(mmu, ShadowMmu)
        return mmu.shadow

    def page(self, gva: int) -> int:
        """Map a page of its own at `gva`; return its GPA."""
        gpa = self.mmus[0].allocate(PAGE_SIZE)
        assert gpa is not None
        self.mmus[0].map(gva, gpa, PAGE_SIZE, USABLE)
        return gpa

    def sees(self, number: int) -> int | None:
        """Return the GPA that vCPU `number` reads at GVA; None for a page fault."""
        here = self.on.number
        self.on.go_to(number)
        status, hpa = self.mmus[number].translate(GVA, READ)
        self.on.go_to(here)
        if status != Status.OK:
            return None
        assert self.machine.memory_map is not None
        return next(
            gpa for gpa in range(0x10_0000, MEMORY, PAGE_SIZE) if self.machine.memory_map.target(gpa) == hpa
        )

    def table(self, level: int) -> int:
        """Return the GPA of the guest's table of `level` on the way to GVA, which both shadows have."""
        frames = [
            {page.frame for page in one.tables.pages if page.role.level == level} for one in self.shadows
        ]
        (frame,) = set.intersection(*frames)
        return frame << 12

    def pages_of(self, number: int, gpa: int) -> list[ShadowPage]:
        return self.shadows[number].tables.pages.by_frame.get(gpa >> 12, [])

    def exits(self) -> list[dict[ExitReason, int]]:
        return [dict(one.exits) for one in self.machine.vcpus]

    def forgotten(self) -> list[list[int | None]]:
        return [one.cpu.forgotten for one in self.machine.vcpus]  # type: ignore[attr-defined]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert [audit(one) for one in made.shadows] == [[], []]
    made.machine.close()


@pytest.mark.parametrize("at_work", [0, 1])
@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_write_above_the_leaves_is_one_exit_and_is_followed_in_each(
    world: World, level: int, at_work: int
) -> None:
    """The tables were made by the first vCPU's Mmu; who exits is the vCPU that writes."""
    world.on.go_to(at_work)
    where = world.table(level) + 8 * (GVA >> 9 * level + 3 & 511)
    memory = world.mmus[0].tables.memory
    entry, before = memory.load(where), [one.counts().writes_followed for one in world.shadows]
    memory.store(where, 0)
    expected: list[dict[ExitReason, int]] = [{}, {}]
    expected[at_work] = {_FAULT: 1}
    assert world.exits() == expected
    assert [one.counts().writes_followed for one in world.shadows] == [n + 1 for n in before]
    assert world.forgotten() == [[None], [None]]  # neither TLB may have the page any more
    assert [world.sees(0), world.sees(1)] == [None, None]
    memory.store(where, entry)
    assert [world.sees(0), world.sees(1)] == [world.gpa, world.gpa]


def test_a_page_table_goes_out_of_sync_in_each_and_each_keeps_what_it_said_until_its_own_flush(
    world: World,
) -> None:
    other = world.page(GVA + PAGE_SIZE)
    assert world.exits() == [{_FAULT: 1}, {}]  # for both shadows, and none for what follows
    leaf = world.table(1) + 8 * (GVA >> 12 & 511)
    memory = world.mmus[0].tables.memory
    memory.store(leaf, memory.load(leaf + 8) & ~(1 << 5))  # the other page
    assert world.exits() == [{_FAULT: 1}, {}]
    assert [one.counts().unsynced for one in world.shadows] == [1, 1]
    assert [world.sees(0), world.sees(1)] == [world.gpa, world.gpa]
    world.mmus[0].invalidate(GVA)
    assert [world.sees(0), world.sees(1)] == [other, world.gpa]
    world.on.shoot_down(1, [GVA])
    assert [world.sees(0), world.sees(1)] == [other, other]
    assert [one[_INVLPG] for one in world.exits()] == [1, 1]
    assert (world.on.number, world.on.sent, world.on.received) == (0, [1, 0], [0, 1])


def test_one_shadow_in_sync_is_enough_for_an_exit(world: World) -> None:
    leaf = world.table(1) + 8 * 100
    memory = world.mmus[0].tables.memory
    memory.store(leaf, 0)
    world.on.shoot_down(1, [None])
    assert [[page.unsync for page in world.pages_of(n, leaf)] for n in range(2)] == [[True], [False]]
    before = world.exits()[0][_FAULT]
    memory.store(leaf, 0)
    assert world.exits()[0][_FAULT] == before + 1
    assert [one.counts().unsynced for one in world.shadows] == [1, 2]
    memory.store(leaf, 0)
    assert world.exits()[0][_FAULT] == before + 1


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_frame_that_is_written_unfollowed_is_forgotten_in_each(
    world: World, level: int, number: int
) -> None:
    gpa = world.table(level)
    world.mmus[number].reach(gpa, write=True)
    for one, shadow in enumerate(world.shadows):
        for page in world.pages_of(one, gpa):  # a root that hardware walks is emptied
            assert level == 4 and not shadow.tables.present(page)
    assert world.forgotten() == [[None], [None]]
    assert [world.sees(0), world.sees(1)] == [world.gpa, world.gpa]


def test_a_change_of_the_memory_map_reaches_each(world: World) -> None:
    memory_map = world.machine.memory_map
    assert memory_map is not None
    versions = [int(one.context[VERSION]) for one in world.mmus]
    mapping = memory_map.unmap(world.gpa)
    assert [one.tables.reverse.leaves(world.gpa >> 12, 1) for one in world.shadows] == [[], []]
    assert world.forgotten() == [[None], [None]]
    assert all(int(one.context[VERSION]) > old for one, old in zip(world.mmus, versions, strict=True))
    memory_map.map(mapping.start, mapping.target, PAGE_SIZE, ALL)
    before = [one.filled for one in world.shadows]
    assert [world.sees(0), world.sees(1)] == [world.gpa, world.gpa]
    assert [one.filled for one in world.shadows] == [n + 1 for n in before]


def test_tables_that_no_shadow_has_are_found_where_the_map_has_moved_them(world: World) -> None:
    memory_map = world.machine.memory_map
    assert memory_map is not None
    tables = world.mmus[1].new_tables()
    root, other = tables.root, world.mmus[0].allocate(PAGE_SIZE)
    assert other is not None
    places = [one.entry_hpa(root) for one in world.mmus]
    assert places == [memory_map.target(root)] * 2 and world.mmus[0].reach(other) not in places
    for _ in range(2):  # and back again
        one, two = memory_map.unmap(root), memory_map.unmap(other)
        memory_map.map(root, two.target, PAGE_SIZE, ALL)
        memory_map.map(other, one.target, PAGE_SIZE, ALL)
        assert [mmu.entry_hpa(root) for mmu in world.mmus] == [two.target] * 2
    tables.close()


@pytest.mark.parametrize("at_work", [0, 1])
@pytest.mark.parametrize("reached_by", [0, 1])
def test_a_hole_in_guest_memory_is_an_exit_of_the_vcpu_that_runs(
    world: World, at_work: int, reached_by: int
) -> None:
    """Its handler asks its own Mmu what the exit comes to, whichever Mmu was asked for the memory."""
    world.on.go_to(at_work)
    gpa = world.mmus[0].allocate(PAGE_SIZE)
    assert gpa is not None
    hpa = world.mmus[reached_by].reach(gpa)
    expected: list[dict[ExitReason, int]] = [{}, {}]
    expected[at_work] = {_FAULT: 1}
    assert world.exits() == expected
    assert [one.reach(gpa) for one in world.mmus] == [hpa, hpa]
    assert world.exits() == expected


def test_a_shootdown_exits_where_it_is_told_and_comes_back_whatever_happens(world: World) -> None:
    world.on.shoot_down(1, [GVA, None])
    assert world.exits() == [{}, {_INVLPG: 1, _CR3: 1}]
    assert world.on.current is world.machine.vcpus[0]

    def refuses(*_: object) -> None:
        raise ArithmeticError

    world.machine.handlers[_INVLPG] = refuses  # type: ignore[assignment]
    with pytest.raises(ArithmeticError):
        world.on.shoot_down(1, [GVA])
    assert world.on.current is world.machine.vcpus[0]


def test_tables_that_one_vcpu_made_are_loaded_and_left_by_each(world: World) -> None:
    """MOV to CR3 is of one vCPU, and so are the roots that its shadow has."""
    world.on.go_to(1)
    second = world.mmus[1].new_tables()
    other = world.mmus[0].allocate(PAGE_SIZE)
    assert other is not None
    second.map(GVA, other, PAGE_SIZE, USABLE)
    first = world.mmus[0].tables
    world.mmus[1].load_tables(second, 0, keep=False)
    assert [world.sees(0), world.sees(1)] == [world.gpa, other]
    assert [one.counts().roots_built for one in world.shadows] == [1, 2]
    world.mmus[1].load_tables(first, 0, keep=False)
    assert [world.sees(0), world.sees(1)] == [world.gpa, world.gpa]
    assert [one.counts().roots_reused for one in world.shadows] == [0, 1]
    second.close()


def test_the_audit_of_an_exit_is_of_every_shadow(world: World) -> None:
    page = next(one for one in world.shadows[1].tables.pages if one.role.level == 1)
    where = page.table + 8 * (GVA >> 12 & 511)
    memory = world.machine.host.memory
    entry = memory.load(where)
    for one in world.mmus:
        assert one.shadowed is not None
        one.shadowed.check()
        memory.store(where, entry ^ 1 << 20)
        with pytest.raises(InternalError, match="shadow entry"):
            one.shadowed.check()
        memory.store(where, entry)


def test_the_report_sums_them(world: World) -> None:
    rows = [one.mmu.shadowed.counts() for one in world.machine.vcpus if one.mmu.shadowed is not None]
    whole = all_shadows(world.machine.vcpus)
    assert whole == {name: rows[0][name] + rows[1][name] for name in rows[0]}
    assert whole["table_pages"] == 8 and whole["filled"] == 2


def test_each_shadow_is_freed_once() -> None:
    host = Host.for_guest(4 * MEMORY, PAGE_SIZE)
    before = host.pool.statistics().frames_by_kind
    world = World(3, host)
    assert host.pool.frames_of(OwnerKind.SHADOW_TABLE) == 12
    for left in (2, 1):
        world.machine.vcpus.pop().close()
        assert host.pool.frames_of(OwnerKind.SHADOW_TABLE) == 4 * left
        world.shadows.pop().tables = None  # type: ignore[assignment] # nobody asks it any more
        world.mmus[0].reach(world.gpa, write=True)
        world.on.go_to(0)
        assert world.sees(0) == world.gpa
    world.machine.close()
    assert host.pool.statistics().frames_by_kind == before
    host.pool.audit()
    host.close()


@pytest.mark.parametrize("pages", [None, 100, 10**9])
def test_the_host_has_room_for_the_shadow_of_each(pages: int | None) -> None:
    frames = []
    for vcpus in (1, 4):
        options = ShadowOptions(pages)
        config = GuestConfig(mmu="shadow", memory=MEMORY, vcpus=vcpus, shadow=options)
        machine = Machine(config, QuietCpu)  # type: ignore[arg-type]
        frames.append(machine.host.pool.frame_count)
        assert {one.mmu.shadow.tables.pages.limit for one in machine.vcpus} == {options.limit(MEMORY)}  # type: ignore[attr-defined]
        machine.close()
    assert frames[1] - frames[0] >= 3 * min(pages or 81, MEMORY // PAGE_SIZE)  # 81: 2 %
