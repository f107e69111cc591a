"""The audit of a host: nothing to say of machines that are in order, and each way to break one is named."""

from collections.abc import Callable

import pytest
from test_machine_life import FakeCpu

from quire.arch import PTE, Access
from quire.errors import InternalError
from quire.machine import GuestConfig, Machine
from quire.memory import FRAME_SHIFT, Fill, Owner, OwnerKind
from quire.memory.numa import Policy, Topology
from quire.mmu import Host, NumaConfig
from quire.mmu.backed import BackedMmu, EptMmu
from quire.observe import audit_host
from quire.paging import Rights

MIB = 1 << 20
READ_WRITE = Rights.READ | Rights.WRITE
PAGE = Owner(OwnerKind.GUEST_PAGE, "guest pages")


def make(host: Host, mmu: str, **options: object) -> Machine:
    made = Machine(GuestConfig(mmu=mmu, memory=8 * MIB, **options), FakeCpu, host=host)  # type: ignore[arg-type]
    for n in range(20):
        gpa = made.mmu.allocate(4096)
        assert gpa is not None
        made.mmu.reach(gpa)
        made.mmu.map(0x400000 + 0x3000 * n, gpa, 4096, READ_WRITE)
    return made


@pytest.mark.parametrize(
    "mmus", [("ept", "ept"), ("ept", "shadow"), ("native",), ("ept", "native", "shadow")]
)
def test_machines_in_order(mmus: tuple[str, ...]) -> None:
    host = Host.for_guest(64 * MIB, 4096)
    machines = [make(host, mmu) for mmu in mmus]
    found = audit_host(host, machines)
    assert found.breaches == []
    assert found.tables > 0 and found.leaves >= 20 and found.pages >= 20 * len(mmus)
    found.check()
    for one in machines:
        if one.mmu.name == "native":  # there the guest's kernel owns the frames: it gives them back itself
            for n in range(20):
                one.mmu.free(one.mmu.unmap(0x400000 + 0x3000 * n).target, 4096)
        one.close()
    assert audit_host(host, []).breaches == []


@pytest.mark.parametrize("mmu", ["ept", "shadow"])
@pytest.mark.parametrize("host_page", [4 << 10, 2 << 20])
@pytest.mark.parametrize("replicate", [False, True])
def test_nodes_and_copies_in_order(mmu: str, host_page: int, replicate: bool) -> None:
    topology = Topology.declared([64 * MIB] * 2)
    numa = NumaConfig(topology, Policy.parse("interleave"), replicate=replicate)
    host = Host.with_nodes(topology)
    machine = make(host, mmu, numa=numa, host_page=host_page)
    found = audit_host(host, [machine])
    assert found.breaches == []
    machine.close()
    assert audit_host(host, []).breaches == []


class World:
    """Two machines under ept on one host, to be broken."""

    def __init__(self) -> None:
        self.host = Host.for_guest(64 * MIB, 4096)
        self.first, self.second = make(self.host, "ept"), make(self.host, "ept")

    def mmu(self, machine: Machine) -> EptMmu:
        return machine.mmu

    def leaf(self, machine: Machine, number: int = 0) -> int:
        """Return where the EPT leaf of the machine's page of that number is."""
        gpa = sorted(self.mmu(machine).blocks)[number]
        found = self.mmu(machine).memory_map.lookup(gpa)
        assert found is not None
        return found.entry_address

    def point(self, where: int, hfn: int) -> None:
        """Have the entry at `where` name frame `hfn`."""
        memory = self.host.memory
        memory.store(where, memory.load(where) & ~PTE.mask("addr") | hfn << FRAME_SHIFT)


def foreign_page(world: World) -> str:
    other = sorted(world.mmu(world.second).blocks.values())[0]
    world.point(world.leaf(world.first), other)
    return f"maps frame {other:#x}, which is memory of machine 1"


def vmcs_as_page(world: World) -> str:
    hfn = world.first.vcpu.vmcs.hpa >> FRAME_SHIFT
    world.point(world.leaf(world.first), hfn)
    return f"maps frame {hfn:#x}, which is VMCS"


def free_frame_as_page(world: World) -> str:
    hfn = world.host.pool.frame_count - 1
    world.point(world.leaf(world.first), hfn)
    return f"maps frame {hfn:#x}, which is FREE"


def page_outside(world: World) -> str:
    world.point(world.leaf(world.first), world.host.memory.frame_count)
    return f"maps HPA {world.host.memory.size:#x}, outside host memory"


def table_twice(world: World) -> str:
    ept = world.mmu(world.first).memory_map
    memory = world.host.memory
    memory.store(ept.root + 8, memory.load(ept.root))
    hfn = memory.load(ept.root) >> FRAME_SHIFT & 0xFFFFFF
    return f"frame {hfn:#x} is a table of level 3 in EPT of machine 0 and was reached from EPT of machine 0"


def shared_root(world: World) -> str:
    first, second = world.mmu(world.first).memory_map, world.mmu(world.second).memory_map
    world.host.memory.store(second.root, world.host.memory.load(first.root))
    hfn = world.host.memory.load(first.root) >> FRAME_SHIFT & 0xFFFFFF
    return f"frame {hfn:#x} is a table of level 3 in EPT of machine 1 and was reached from EPT of machine 0"


def page_as_table(world: World) -> str:
    ept = world.mmu(world.first).memory_map
    page = sorted(world.mmu(world.first).blocks.values())[0]
    world.point(ept.root, page)
    return f"frame {page:#x} is a table of level 3 in EPT of machine 0 and is owned as GUEST_PAGE"


def table_left_over(world: World) -> str:
    hfn = world.host.pool.allocate(0, Owner(OwnerKind.EPT_TABLE, "EPT"), Fill.ZERO)
    return f"frame {hfn:#x} is owned as EPT_TABLE and no root reaches it"


def page_left_over(world: World) -> str:
    hfn = world.host.pool.allocate(0, PAGE, Fill.ZERO)
    return f"frame {hfn:#x} is owned as GUEST_PAGE and is no machine's"


def vmcs_left_over(world: World) -> str:
    hfn = world.host.pool.allocate(0, Owner(OwnerKind.VMCS, "VMCS"), Fill.ZERO)
    return f"frame {hfn:#x} is a VMCS region in only one of the pool's records and the vCPUs"


def page_freed_while_mapped(world: World) -> str:
    gpa, hfn = next(iter(world.mmu(world.first).blocks.items()))
    world.host.pool.free(hfn, 0, PAGE)
    return f"frame {hfn:#x} backs GPA {gpa:#x} of machine 0 and is owned as FREE"


def page_of_two(world: World) -> str:
    blocks = world.mmu(world.second).blocks
    gpa = next(iter(blocks))
    blocks[gpa] = hfn = next(iter(world.mmu(world.first).blocks.values()))
    return f"frame {hfn:#x} backs GPA {gpa:#x} of machine 1 and memory of machine 0"


def records(world: World) -> str:
    world.host.pool._owner_ids[5] = 77  # type: ignore[union-attr]
    return "pool audit: frame 0x5 "


@pytest.mark.parametrize(
    "break_it",
    [
        *(
            foreign_page,
            vmcs_as_page,
            free_frame_as_page,
            page_outside,
            table_twice,
            shared_root,
            page_as_table,
        ),
        *(table_left_over, page_left_over, vmcs_left_over, page_freed_while_mapped, page_of_two, records),
    ],
    ids=lambda one: one.__name__,
)
def test_each_breach_is_named(break_it: Callable[[World], str]) -> None:
    world = World()
    assert audit_host(world.host, [world.first, world.second]).breaches == []
    said = break_it(world)
    found = audit_host(world.host, [world.first, world.second])
    assert any(said in breach for breach in found.breaches), found.breaches
    with pytest.raises(InternalError, match=r"^host audit: .*This is a bug in Quire: please report it\.$"):
        found.check()


def test_shadows_of_several_vcpus_in_order() -> None:
    host = Host.for_guest(64 * MIB, 4096)
    machine = make(host, "shadow", vcpus=3)
    for vcpu in machine.vcpus[1:]:
        assert vcpu.mmu.translate(0x400000, Access.READ)[0] == 0
    found = audit_host(host, [machine])
    assert found.breaches == []
    assert found.tables > sum(len(one.mmu.shadow.tables.pages) for one in machine.vcpus) >= 1 + 4 + 4
    machine.close()
    assert audit_host(host, []).breaches == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_shadow_entry_that_nothing_justifies(number: int) -> None:
    host = Host.for_guest(32 * MIB, 4096)
    machine = make(host, "shadow", vcpus=2)
    mmu = machine.vcpus[number].mmu
    assert isinstance(mmu, BackedMmu)
    shadow = mmu.shadow
    page = next(iter(shadow.tables.pages))
    host.memory.store(page.table + 8 * 200, 0x1000 | PTE.encode(P=1, RW=1, US=1, A=1))
    assert any("shadow entry" in breach for breach in audit_host(host, [machine]).breaches)
