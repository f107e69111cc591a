"""Pools by node: frames from the nodes that are named, in order; calls go to the node that has the frame."""

import pytest

from quire.errors import MisuseError
from quire.memory import Fill, HostMemory, OutOfFrames, Owner, OwnerKind
from quire.memory.numa import NodePools, Topology

OWNER = Owner(OwnerKind.GUEST_PAGE, "test")
FRAMES = 512  # of each node


@pytest.fixture
def pools() -> NodePools:
    topology = Topology.declared([2 << 20, 4 << 20, 2 << 20])
    return NodePools(topology, HostMemory(topology.size))


def test_frames_come_from_the_first_node_that_has_one(pools: NodePools) -> None:
    assert pools.node_of(pools.allocate(0, OWNER)) == 0
    assert pools.node_of(pools.allocate(0, OWNER, nodes=(2, 1))) == 2
    whole = pools.allocate(9, OWNER, Fill.ZERO, (0, 1))
    assert pools.node_of(whole) == 1, "node 0 has no whole block left"
    assert pools.fell_back == 1
    assert pools.statistics().frames_used == 514
    pools.audit()


def test_a_node_that_is_full_is_an_error_where_no_other_is_named(pools: NodePools) -> None:
    for _ in range(FRAMES):
        pools.allocate(0, OWNER, nodes=(2,))
    with pytest.raises(
        OutOfFrames, match=r"^no free block of order 0 .* for GUEST_PAGE 'test': 0x0 frames are free"
    ):
        pools.allocate(0, OWNER, nodes=(2,))
    assert pools.node_of(pools.allocate(0, OWNER, nodes=(2, 0))) == 0
    assert pools.frames_of(OwnerKind.GUEST_PAGE) == FRAMES + 1


def test_blocks_go_back_where_they_came_from(pools: NodePools) -> None:
    before = pools.statistics().frames_by_kind
    taken = [
        (pools.allocate(order, OWNER, nodes=(node,)), order)
        for node in range(3)
        for order in (0, 3, 9 * (node == 1))
    ]
    block = pools.allocate(2, OWNER, nodes=(1,))
    pools.divide(block, 2, OWNER)
    assert pools.owner_of(block + 3) == OWNER
    for hfn in range(block, block + 4):
        pools.free(hfn, 0, OWNER)
    for hfn, order in taken:
        pools.free(hfn, order, OWNER)
    pools.audit()
    assert pools.statistics().frames_by_kind == before


def test_the_table_of_nodes_says_what_numbers_say(pools: NodePools) -> None:
    assert pools.node_table.tolist() == [0, 1, 1, 2]
    assert [pools.node_of(hfn) for hfn in (0, 511, 512, 1535, 1536, 2047)] == [0, 0, 1, 1, 2, 2]


def test_misuse(pools: NodePools) -> None:
    with pytest.raises(MisuseError, match=r"^frame 0x800 is on no node: the last frame is 0x7ff$"):
        pools.node_of(0x800)
    with pytest.raises(
        MisuseError, match=r"^No node was named for a block of GUEST_PAGE 'test': name at least one$"
    ):
        pools.allocate(0, OWNER, nodes=())
    with pytest.raises(
        MisuseError, match=r"^Nodes of 0x200000 bytes are not host memory of 0x400000: make both the same$"
    ):
        NodePools(Topology.declared([2 << 20]), HostMemory(4 << 20))
