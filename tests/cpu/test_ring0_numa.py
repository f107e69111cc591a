"""Guests on nodes: placement by policy, pages that move under a running guest, tables with copies on every node."""

import numpy as np
import pytest
from ring0_guest import assemble, reported, rounds

from quire.arch import EPT_PTE, EPTP
from quire.cpu import Detail
from quire.errors import MisuseError
from quire.guest.boot.bare import BareGuest, bare_config
from quire.machine import GuestConfig
from quire.machine.migration import balance, migrate, move_vcpu, node_of
from quire.memory import OutOfFrames, Owner, OwnerKind
from quire.memory.numa import NodePools, Policy, Topology
from quire.mmu import NumaConfig, ReplicatedTables
from quire.mmu.backed import BackedMmu
from quire.paging import Context
from quire.tlb.nodes import NodeCount

TWO = Topology.declared([32 << 20] * 2)
MOVE = 0x55
WORK, SUM = rounds(16, 40)


class Mover:
    """A device that moves pages of the guest: every time it is written to, as its turn says."""

    def __init__(self, guest: BareGuest) -> None:
        self.guest, self.moved, self.asked = guest, 0, 0

    def read(self, size: int) -> int:
        return 0

    def write(self, value: int, size: int) -> None:
        self.asked += 1
        machine = self.guest.machine
        mmu = machine.vcpu.mmu
        assert isinstance(mmu, BackedMmu)
        pages = sorted(mmu.blocks)
        for n, gpa in enumerate(pages):
            if (n + self.asked) % 3 == 0:
                here = node_of(machine, gpa)
                assert here is not None
                self.moved += migrate(machine, gpa, 1 - here)
        if self.asked % 5 == 0:
            move_vcpu(machine.vcpu, 1 - machine.vcpu.node)
        machine.host.pool.audit()


def run(
    mmu: str, numa: NumaConfig | None, detail: Detail = Detail.EXITS, **options: object
) -> tuple[BareGuest, Mover, list[int]]:
    image = assemble(WORK)
    guest = BareGuest(image, bare_config(memory=8 << 20, mmu=mmu, numa=numa, **options), detail=detail)  # type: ignore[arg-type]
    mover = Mover(guest)
    if numa is not None:
        guest.machine.ports.attach(MOVE, mover)
    outcome = guest.run()
    assert outcome.reason == "exited", outcome.text
    return guest, mover, reported(outcome)


EXPECTED = [SUM]


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("mmu", ["ept", "shadow"])
def test_pages_move_and_the_guest_does_not_know(mmu: str, replicate: bool) -> None:
    numa = NumaConfig(TWO, Policy.parse("interleave"), replicate=replicate)
    guest, mover, said = run(mmu, numa, check_flushes=mmu == "ept")
    assert said == EXPECTED
    assert mover.asked == 40
    assert mover.moved > 300
    check = guest.vcpu.flush_check
    if check is not None:
        assert not check.record(lambda address: None)["findings"]
    for one in reversed(guest.vcpus.copy()):
        one.close()


@pytest.mark.parametrize("host_page", [4 << 10, 2 << 20])
def test_every_page_is_where_the_policy_says(host_page: int) -> None:
    topology = Topology.declared([64 << 20] * 4)
    numa = NumaConfig(topology, Policy.parse("interleave:1,3"), host_tables=Policy.parse("bind:2"))
    image = assemble(WORK)
    guest = BareGuest(image, bare_config(memory=16 << 20, mmu="ept", numa=numa, host_page=host_page))
    guest.run()
    mmu = guest.vcpu.mmu
    assert len(mmu.blocks) >= 2
    for gpa in mmu.blocks:
        assert node_of(guest.machine, gpa) == (1, 3)[gpa // host_page % 2]
    pools = guest.machine.host.pool
    assert isinstance(pools, NodePools)
    tables = [pool.frames_of(OwnerKind.EPT_TABLE) for pool in pools.pools]
    assert tables[2] == sum(tables) > 0


def test_first_touch_is_the_node_of_the_vcpu_that_touches() -> None:
    source = (
        "cmp rsi, 0\njne second\n"
        "mov eax, 1\nmov [0x300000], rax\n1: pause\ncmp qword ptr [0x320000], 2\njne 1b\nfinish\n"
        "second:\nmov eax, 2\nmov [0x310000], rax\nmov [0x320000], rax\n2: pause\njmp 2b\n"
    )
    guest = BareGuest(
        assemble(source),
        bare_config(memory=8 << 20, numa=NumaConfig(TWO), vcpus=2, vcpu_nodes=(0, 1)),
        detail=Detail.FULL,
    )
    assert guest.run().reason == "exited"
    assert [node_of(guest.machine, gpa) for gpa in (0x300000, 0x310000)] == [0, 1]
    references = [one.node_references for one in guest.vcpus]
    assert references[1] is not None
    for number, one in enumerate(references):
        assert one is not None
        assert one.matrix(NodeCount.DATA)[1 - number].tolist() == [0, 0], "it never ran there"
    assert references[1].local(NodeCount.DATA) == 1  # its own page; the other that it writes is node 0's


def test_a_walk_reads_the_copy_of_its_node_and_flags_are_the_union() -> None:
    numa = NumaConfig(TWO, replicate=True, vcpu_node=1)
    guest, _, said = run("ept", numa, Detail.FULL)
    assert said == EXPECTED
    mmu = guest.vcpu.mmu
    copies = mmu.memory_map.memory
    assert isinstance(copies, ReplicatedTables)
    memory = guest.machine.host.memory
    pools = guest.machine.host.pool
    assert isinstance(pools, NodePools)
    flags, addresses = EPT_PTE.mask("A", "D"), EPT_PTE.mask("addr")
    of_table = {copy: first for first, both in copies.copies().items() for copy in both}
    for first, second in copies.copies().values():
        assert [pools.node_of(hpa >> 12) for hpa in (first, second)] == [0, 1]
        for offset in range(0, 4096, 8):
            a, b = memory.load(first + offset), memory.load(second + offset)
            assert copies.load(first + offset) == a | b & flags
            a_child, b_child = a & addresses, b & addresses
            assert of_table.get(a_child, a_child) == of_table.get(b_child, b_child)
            assert (a ^ b) & ~flags & ~addresses == 0
    references = guest.vcpu.node_references
    assert references is not None
    assert references.remote(NodeCount.HOST_TABLE) == 0
    assert references.local(NodeCount.HOST_TABLE) > 0
    root = int(mmu.context[Context.EPTP]) & EPTP.mask("addr")
    assert root == copies.copy_on(guest.vcpu.node, mmu.memory_map.root)


def test_a_page_that_cannot_move_stays() -> None:
    topology = Topology.declared([32 << 20, 2 << 20])
    guest, _, _ = run("ept", NumaConfig(topology))
    machine = guest.machine
    pools = machine.host.pool
    assert isinstance(pools, NodePools)
    other = Owner(OwnerKind.HYPERVISOR, "other")
    while pools.pools[1].frames_of(OwnerKind.FREE):
        pools.pools[1].allocate(0, other)
    page = next(gpa for gpa in machine.vcpu.mmu.blocks if node_of(machine, gpa) == 0)
    before = guest.read(page, 4096)
    with pytest.raises(OutOfFrames):
        migrate(machine, page, 1)
    assert node_of(machine, page) == 0
    assert guest.read(page, 4096) == before
    pools.audit()


def test_balance_moves_what_another_node_uses_more() -> None:
    guest, _, _ = run("ept", NumaConfig(TWO))
    machine = guest.machine
    for gpa in list(machine.vcpu.mmu.blocks):
        migrate(machine, gpa, 0)
    accesses = np.zeros((8 << 20 >> 12, 2), np.int64)
    backed = sorted(machine.vcpu.mmu.blocks)
    accesses[backed[0] >> 12] = 3, 9
    accesses[backed[1] >> 12] = 9, 3
    accesses[backed[2] >> 12] = 0, 1
    accesses[backed[3] >> 12] = 2, 20
    assert balance(machine, accesses) == [(backed[3], 1), (backed[0], 1)]
    assert balance(machine, accesses) == []
    accesses[backed[5] >> 12] = accesses[backed[6] >> 12] = 0, 7
    assert balance(machine, accesses, limit=1) == [(backed[5], 1)]
    with pytest.raises(
        MisuseError,
        match=r"^Accesses of shape \(4, 3\) cannot be balanced: give an array of pages x 2 nodes$",
    ):
        balance(machine, np.zeros((4, 3), np.int64))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: GuestConfig(mmu="native", kind="machine", numa=NumaConfig(TWO)),
            r"^Memory of a machine guest under native is host memory from 0, which no policy places: "
            r"give mmu='ept' or 'shadow'$",
        ),
        (
            lambda: GuestConfig(mmu="native", numa=NumaConfig(TWO, replicate=True)),
            r"^Under native there are no tables of the hypervisor that nodes could have copies of: "
            r"give mmu='ept' or 'shadow'$",
        ),
        (
            lambda: NumaConfig(TWO, host_tables=Policy.parse("bind:0"), replicate=True),
            r"^Tables that every node has a copy of have no policy bind:0: leave one of both out$",
        ),
        (
            lambda: BareGuest(b"\xf4", bare_config(memory=256 << 20, numa=NumaConfig(TWO))),
            r"^A guest with 268_435_456 bytes is larger than all nodes, which have 67_108_864: "
            r"give it less, or the nodes more$",
        ),
        (
            lambda: BareGuest(b"\xf4", bare_config(vcpus=2, vcpu_nodes=(0,), numa=NumaConfig(TWO))),
            r"^1 nodes cannot be given to 2 vCPUs: give numa, and one node for each vCPU$",
        ),
        (
            lambda: migrate(BareGuest(b"\xf4", bare_config(mmu="native")).machine, 0, 0),
            r"^Pages of a guest under native cannot move",
        ),
        (
            lambda: migrate(BareGuest(b"\xf4").machine, 0, 0),
            r"^The host has no nodes that pages could move between",
        ),
        (
            lambda: migrate(BareGuest(b"\xf4", bare_config(numa=NumaConfig(TWO))).machine, 0x800000, 0),
            r"^Nothing backs the guest page at 0x800000: only what the guest has touched can move$",
        ),
        (
            lambda: move_vcpu(BareGuest(b"\xf4").machine.vcpu, 1),
            r"^The host has no nodes that a vCPU could move between: give GuestConfig numa$",
        ),
    ],
)
def test_misuse(make: object, text: str) -> None:
    with pytest.raises(MisuseError, match=text):
        make()  # type: ignore[operator]
