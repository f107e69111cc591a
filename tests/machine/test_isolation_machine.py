"""Machines that share a host: whatever a hostile guest puts into its tables, it reaches its own frames and no others.

After each step every translation ended in a frame that the pool says is that machine's guest page, and every frame of
the host that is not that machine's is byte for byte what it was.
"""

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sampling import some

from quire.arch import CR0, CR4, EFER, PDE_2M, PDPTE, PML4E, PTE, Access, ExitReason, MemoryType
from quire.errors import MisuseError
from quire.exits import GuestStopped
from quire.machine import GuestConfig, Machine, protect_memory
from quire.machine.migration import migrate, node_of
from quire.memory import Fill, Owner, OwnerKind
from quire.memory.numa import Topology
from quire.mmu import BackedMmu, Host, NumaConfig, Region, RegionKind, ShadowMmu
from quire.paging import Context, Rights, Status
from quire.vcpu import Exit

MEMORY, LARGE, PAGE = 4 << 20, 2 << 20, 4096
NODES = Topology.declared([8 << 20, 10 << 20])
SECRET = Owner(OwnerKind.SECURE, "secret")
R, W, X = Rights.READ, Rights.WRITE, Rights.EXECUTE
RIGHTS = st.sampled_from([R, R | W, R | X, R | W | X])
REGIONS = (
    Region(0, 0x100000),
    Region(0x100000, 0x4000, RegionKind.READ_ONLY, contents=b"\xff" * 0x2800),
    Region(0x104000, 0x2000, RegionKind.MMIO),
    Region(0x200000, 0x8000, memory_type=MemoryType.UC),
    Region(0x208000, 0x8000, RegionKind.ALIAS, target=0x200000),
    Region(0x210000, 0x4000, RegionKind.ALIAS, target=0x2000, rights=R),
)
ACCESSES = st.sampled_from([Access.READ, Access.WRITE, Access.FETCH])
WHO = st.integers(0, 3)
TABLES = st.sampled_from([0x2000, 0x3000, 0x4000, 0x5000, 0x101000, 0x209000, 0x211000, 0x3FF000])
FLAGS = st.sampled_from(
    [1, 3, 7, 0x27, 0x67, 0x87, 0xE7, 0x1E7, 1 << 63 | 7, 1 << 51 | 7, 1 << 46 | 0x87, 0xFFF, 0]
)
#: Where a guest may look: its tables' first and last entries, its own memory at its own addresses, the other half.
ADDRESSES = st.one_of(
    st.sampled_from(
        [0x2000, 0x101000, 0x104000, 0x209000, 0x400000, 1 << 39, 1 << 46, (1 << 64) - 8, 1 << 47]
    ),
    st.integers(0, MEMORY // 8 - 1).map(lambda n: 8 * n),
    st.tuples(*[st.sampled_from([0, 1, 2, 255, 256, 511])] * 4).map(
        lambda i: _canonical(i[0] << 39 | i[1] << 30 | i[2] << 21 | i[3] << 12)
    ),
)


def _canonical(gva: int) -> int:
    return gva | 0xFFFF << 48 if gva >> 47 else gva


class QuietCpu:
    """A Cpu that never runs: registers, and the one instruction that a shadow lets pass."""

    def __init__(self, machine: Machine) -> None:
        self.registers = self
        self.values: dict[str, int] = {"rflags": 2}
        self.then: Callable[[], None] | None = None

    def read(self, name: str) -> int:
        return self.values.get(name, 0)

    def write(self, name: str, value: int) -> None:
        self.values[name] = value

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [self.read(name) for name in names]

    def step(self, then: Callable[[], None]) -> None:
        self.then = then

    def passed(self) -> None:
        then, self.then = self.then, None
        if then is not None:
            then()

    def forget(self, gva: int | None) -> None: ...

    def forget_code(self, hpa: int, length: int) -> None: ...

    def close(self) -> None: ...


class Subject:
    """One machine, started with the tables of the boot protocol: 4 MiB at their own addresses, for the user too."""

    def __init__(self, host: Host, name: str, mmu: str, regions: tuple[Region, ...], host_page: int) -> None:
        config = GuestConfig(
            mmu=mmu,
            memory=MEMORY,
            kind="machine",
            name=name,
            regions=regions,
            host_page=host_page,
            numa=NumaConfig(NODES),
        )
        self.machine = Machine(config, QuietCpu, host=host)  # type: ignore[arg-type]
        assert isinstance(self.machine.vcpu.mmu, BackedMmu)
        self.mmu: BackedMmu = self.machine.vcpu.mmu
        self.cpu: QuietCpu = self.machine.vcpu.cpu  # type: ignore[assignment]
        self.owner = Owner(OwnerKind.GUEST_PAGE, f"guest pages of {name}")
        self.host = host
        self.put(0x2000, PML4E.encode(P=1, RW=1, US=1, addr=0x3000))
        self.put(0x3000, PDPTE.encode(P=1, RW=1, US=1, addr=0x4000))
        for n in range(2):
            self.put(0x4000 + 8 * n, PDE_2M.encode(P=1, RW=1, US=1, PS=1, addr=n * LARGE))
        self.machine.vcpu.processor.reset(
            CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, PG=1),
            0x2000,
            CR4.encode(PAE=1),
            EFER.encode(LME=1, LMA=1, NXE=1),
        )
        self.machine.vcpu.processor.settle()

    def put(self, gpa: int, word: int) -> None:
        """Store a word in guest-physical memory, as a device of the guest might."""
        self.host.memory.store(self.mmu.reach(gpa, write=True), word)

    def owns(self, hpa: int) -> bool:
        """Whether the pool says that the frame of `hpa` is a guest page of this machine."""
        return self.host.pool.owner_of(hpa >> 12) == self.owner

    def frames(self) -> set[int]:
        """The host frames that this machine may change: pages, tables, VMCS."""
        mmu = self.mmu
        count = mmu.page_size >> 12
        found = {hfn + n for hfn in mmu.blocks.values() for n in range(count)}
        found |= {table >> 12 for table in mmu.memory_map.addresses()}
        found.add(self.machine.vcpu.vmcs.hpa >> 12)
        if isinstance(mmu, ShadowMmu):
            found |= {page.table >> 12 for page in mmu.shadow.tables.pages}
        return found

    def drop(self, start: int) -> None:
        """Take the host page at `start` away, as a balloon would, with every name that it has."""
        mmu = self.mmu
        names = [start] if mmu.regions is None else mmu.regions.names(start)
        for name in names:
            mmu.memory_map.unmap_range(name, mmu.page_size)
        self.machine.shoot_down(mmu.map_flush)
        self.host.pool.free(mmu.blocks.pop(start), (mmu.page_size >> 12).bit_length() - 1, self.owner)

    def access(self, gva: int, access: Access, user: bool) -> int | None:
        """Access `gva`, every exit dealt with; return the HPA, None when the guest may not."""
        context = self.mmu.context
        context[Context.USER] = user
        try:
            for _ in range(64):
                status, value = self.mmu.translate(gva, access)
                if status == Status.OK:
                    return value
                if status != Status.EPT_VIOLATION:
                    assert status in (Status.PAGE_FAULT, Status.NON_CANONICAL), Status(status)
                    return None
                self.machine.vcpu.handle_exit(
                    Exit(ExitReason.EPT_VIOLATION, value, self.mmu.fault_gpa, gla=gva)
                )
        except GuestStopped:
            return None
        finally:
            self.cpu.passed()
            self.machine.vcpu.vmx.take_exception()
        raise AssertionError("mended again and again")

    def deliver(self, gva: int, data: bytes, supervisor: bool) -> None:
        """Write as event delivery does."""
        memory = self.machine.vcpu.linear_memory
        self.mmu.context[Context.USER] = not supervisor
        try:
            for _ in range(64):
                fault = memory.write(gva, data, supervisor=supervisor)
                if not isinstance(fault, Exit):
                    return
                self.machine.vcpu.handle_exit(fault)
        except GuestStopped:
            return
        finally:
            self.cpu.passed()
            self.machine.vcpu.vmx.take_exception()
        raise AssertionError("mended again and again")


class IsolationMachine(RuleBasedStateMachine):
    """Four machines: EPT, EPT over large pages, shadow, EPT with regions."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host.with_nodes(NODES)
        self.memory, self.pool = self.host.memory, self.host.pool
        self.secret = self.pool.allocate(0, SECRET, Fill.ZERO)
        self.memory.fill(self.secret, 1, 0x5E)
        self.subjects = [
            Subject(self.host, "a", "ept", (), PAGE),
            Subject(self.host, "b", "ept", (), LARGE),
            Subject(self.host, "c", "shadow", (), PAGE),
            Subject(self.host, "d", "ept", REGIONS, PAGE),
        ]
        self.before = self.memory.frames.copy()
        self.mine: set[int] | None = None  # of the machine that acts
        self.actor: Subject | None = None

    def teardown(self) -> None:
        for one in self.subjects:
            one.machine.close()
        self.pool.free(self.secret, 0, SECRET)
        self.pool.audit()
        assert self.pool.frames_of(OwnerKind.FREE) == self.memory.frame_count, "every frame came back"
        self.host.close()

    def act(self, who: int) -> Subject:
        self.actor = self.subjects[who]
        self.mine = self.actor.frames()
        return self.actor

    def target(self, data: st.DataObject, one: Subject) -> int:
        """Draw an address that a hostile guest would like to have in an entry."""
        other = data.draw(st.sampled_from([other for other in self.subjects if other is not one]))
        frames = [
            *other.frames(),
            *(table >> 12 for table in one.mmu.memory_map.addresses()),
            *(self.secret, one.machine.vcpu.vmcs.hpa >> 12),
        ]
        return data.draw(
            st.one_of(
                TABLES,
                st.sampled_from(sorted(frames)).map(lambda frame: frame << 12),
                st.integers(0, MEMORY // PAGE - 1).map(lambda frame: frame << 12),
                st.sampled_from(
                    [MEMORY, self.memory.size, self.memory.size - PAGE, 1 << 45, (1 << 46) - PAGE]
                ),
            )
        )

    def write_hostile(self, one: Subject, gpa: int, word: int) -> None:
        try:
            one.put(gpa, word)
        except GuestStopped:
            assert one.mmu.regions is not None, "only a hole has no memory"

    @rule(data=st.data(), who=WHO, table=TABLES, index=st.sampled_from([0, 1, 2, 255, 256, 511]), flags=FLAGS)
    def write_an_entry(self, data: st.DataObject, who: int, table: int, index: int, flags: int) -> None:
        one = self.act(who)
        self.write_hostile(one, table + 8 * index, self.target(data, one) | flags)

    @rule(who=WHO, gpa=st.integers(0, MEMORY // 8 - 1), word=st.integers(0, (1 << 64) - 1))
    def write_anything(self, who: int, gpa: int, word: int) -> None:
        self.write_hostile(self.act(who), 8 * gpa, word)

    @rule(data=st.data(), who=WHO, bits=st.sampled_from([0, 0x18, 1 << 63, 1 << 50]))
    def load_cr3(self, data: st.DataObject, who: int, bits: int) -> None:
        one = self.act(who)
        one.machine.vcpu.processor.write_cr(3, self.target(data, one) | bits)

    @rule(who=WHO, root=st.sampled_from([0x2000, 0x209000]))
    def load_a_root_of_its_own(self, who: int, root: int) -> None:
        self.act(who).machine.vcpu.processor.write_cr(3, root)

    @rule(who=WHO, gva=ADDRESSES, access=ACCESSES, user=st.booleans())
    def access(self, who: int, gva: int, access: Access, user: bool) -> None:
        one = self.act(who)
        hpa = one.access(gva, access, user)
        assert hpa is None or one.owns(hpa), f"GVA {gva:#x} ended in {self.pool.owner_of(hpa >> 12)}"

    @rule(data=st.data(), who=WHO, gva=ADDRESSES, flags=FLAGS, supervisor=st.booleans())
    def write_through_its_tables(
        self, data: st.DataObject, who: int, gva: int, flags: int, supervisor: bool
    ) -> None:
        one = self.act(who)
        one.deliver(gva, (self.target(data, one) | flags).to_bytes(8, "little"), supervisor)

    @rule(who=WHO, gpa=st.integers(0, MEMORY // PAGE - 1))
    def back(self, who: int, gpa: int) -> None:
        one = self.act(who)
        if one.mmu.memory_map.target(gpa * PAGE) is None:
            one.machine.back(gpa * PAGE)

    @precondition(lambda self: any(one.mmu.blocks for one in self.subjects))
    @rule(data=st.data(), who=WHO)
    def take_away(self, data: st.DataObject, who: int) -> None:
        one = self.act(who)
        if one.mmu.blocks:
            one.drop(data.draw(st.sampled_from(sorted(one.mmu.blocks))))

    @rule(data=st.data(), who=WHO, rights=RIGHTS)
    def protect(self, data: st.DataObject, who: int, rights: Rights) -> None:
        one = self.act(who)
        if not one.mmu.blocks:
            return
        gpa = data.draw(st.sampled_from(sorted(one.mmu.blocks)))
        if one.mmu.regions is None:
            one.mmu.memory_map.protect_range(gpa, one.mmu.page_size, rights)
            one.machine.shoot_down(one.mmu.map_flush)
            return
        try:
            protect_memory(one.machine, gpa, PAGE, rights)
        except MisuseError as refused:
            assert "READ_ONLY" in str(refused) and rights & W

    @rule(data=st.data())
    def split_or_join(self, data: st.DataObject) -> None:
        one = self.act(1)
        if not one.mmu.blocks:
            return
        gpa = data.draw(st.sampled_from(sorted(one.mmu.blocks)))
        found = one.mmu.memory_map.lookup(gpa)
        if found is not None and found.size == LARGE:
            one.mmu.memory_map.split(gpa)
        else:
            assert one.mmu.memory_map.join(gpa)
        one.machine.shoot_down(one.mmu.map_flush)

    @rule(data=st.data(), who=WHO)
    def move(self, data: st.DataObject, who: int) -> None:
        one = self.act(who)
        if not one.mmu.blocks:
            return
        gpa = data.draw(st.sampled_from(sorted(one.mmu.blocks)))
        here = node_of(one.machine, gpa)
        assert here is not None
        assert migrate(one.machine, gpa, 1 - here)

    @invariant()
    def nobody_else_was_touched(self) -> None:
        if self.actor is None or self.mine is None:
            return
        allowed = self.mine | self.actor.frames()
        now = self.memory.frames
        changed = np.flatnonzero((now != self.before).any(axis=1))
        foreign = [f"{hfn:#x} of {self.pool.owner_of(hfn)}" for hfn in changed.tolist() if hfn not in allowed]
        assert not foreign
        self.before[changed] = now[changed]

    @invariant()
    def maps_lead_to_guest_pages_of_their_own(self) -> None:
        for one in self.subjects:
            found = one.mmu.memory_map.leaves(0, 1 << 48)
            for target in found.targets.tolist():
                assert one.owns(target)
            if not isinstance(one.mmu, ShadowMmu):
                continue
            one.mmu.check()
            tables = one.mmu.shadow.tables
            for page in tables.pages:
                for entry in tables.pages.table(page).tolist():
                    if entry & 1 and not tables.is_link(page, entry):
                        assert one.owns(PTE.get(entry, "addr"))


IsolationMachine.TestCase.settings = settings(max_examples=some(12, 7), stateful_step_count=30, deadline=None)
TestIsolation = IsolationMachine.TestCase
