"""The host's own nodes: pages are bound and found where they are; refusals are clear."""

import pytest

from quire.errors import BackendError, MisuseError
from quire.memory import HostMemory, Owner, OwnerKind
from quire.memory.numa import Topology
from quire.memory.numa.binding import bind_range, pages_by_node
from quire.mmu import Host

MIB = 1 << 20


def bound(memory: HostMemory, node: int) -> None:
    try:
        bind_range(memory, 0, memory.size, node)
    except BackendError as error:
        if error.errno in (1, 38):  # a sandbox without the right to, a kernel without nodes
            pytest.skip(str(error))
        raise


def test_pages_are_where_they_are_bound() -> None:
    memory = HostMemory(4 * MIB)
    bound(memory, 0)
    assert pages_by_node(memory, 0, memory.size) == {}, "nothing is touched yet"
    memory.write(MIB, b"x" * 0x3000)
    assert pages_by_node(memory, 0, memory.size) == {0: 3}
    assert pages_by_node(memory, 0, MIB) == {}


@pytest.mark.skipif(Topology.of_host().count < 2, reason="the machine has one node")
def test_pages_move_to_where_they_are_bound() -> None:
    memory = HostMemory(4 * MIB)
    memory.write(0, b"x" * 0x3000)
    bound(memory, 1)
    assert pages_by_node(memory, 0, memory.size) == {1: 3}


def test_refusals() -> None:
    memory = HostMemory(4 * MIB)
    bound(memory, 0)
    with pytest.raises(
        BackendError, match=r"mbind of host memory to node 63 was refused: .*; see quire numa for"
    ):
        bind_range(memory, 0, MIB, 63)
    with pytest.raises(MisuseError, match=r"^There is no node 64: give 0 to 63$"):
        bind_range(memory, 0, MIB, 64)
    text = r"^HPA 0x400000 with length 0x1000 cannot be bound: give whole frames within 0x400000$"
    with pytest.raises(MisuseError, match=text):
        bind_range(memory, 4 * MIB, 0x1000, 0)
    text = r"^HPA 0x1 with length 0x1000 cannot be looked for: give whole frames within 0x400000$"
    with pytest.raises(MisuseError, match=text):
        pages_by_node(memory, 1, 0x1000)


def test_a_host_with_the_machines_own_nodes_is_bound_to_them() -> None:
    topology = Topology.of_host()
    bound(HostMemory(4 * MIB), topology.numbers[0])
    host = Host.with_nodes(topology)
    owner = Owner(OwnerKind.HYPERVISOR, "test")
    for node in range(topology.count):
        for _ in range(20):
            host.memory.fill(host.pool.allocate(0, owner, nodes=(node,)), 1, 7)
    assert host.misplaced() == 0
    host.close()
    declared = Host.with_nodes(Topology.declared([4 * MIB] * 2))
    assert declared.misplaced() == 0
