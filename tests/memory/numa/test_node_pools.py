"""Pools by node: frames from the nodes that are named, in order; calls go to the node that has the frame."""

import pytest

from quire.errors import MisuseError
from quire.memory import FREE_OWNER, Fill, FrameCache, HostMemory, OutOfFrames, Owner, OwnerKind
from quire.memory.numa import NodePools, Topology
from quire.testing import sweep_failures

OWNER = Owner(OwnerKind.GUEST_PAGE, "test")
OTHER = Owner(OwnerKind.GUEST_PAGE, "other")
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


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("order", [0, 1, 8, 9])
def test_a_batch_is_what_single_calls_give(order: int, fill: Fill) -> None:
    topology = Topology.declared([2 << 20, 4 << 20, 2 << 20])
    both = [NodePools(topology, HostMemory(topology.size)) for _ in range(2)]
    for pools in both:
        pools.allocate(0, OWNER, nodes=(0,))
        pools.allocate(3, OWNER, nodes=(1,))
    for nodes in (None, (2,), (2, 1, 0), (1, 1, 2)):
        for count in (0, 1, 3 if order < 8 else 1):
            with both[0].claim(3, OTHER) as one, both[1].claim(3, OTHER) as other:
                assert one.left == other.left == both[0].frames_claimed
                try:
                    expected = [both[0].allocate(order, OWNER, fill, nodes, one) for _ in range(count)]
                except OutOfFrames:
                    with pytest.raises(OutOfFrames):
                        both[1].allocate_many(count, order, OWNER, fill, nodes, other)
                    continue
                found = both[1].allocate_many(count, order, OWNER, fill, nodes, other)
                assert found.tolist() == expected
                assert [one.left_on(node) for node in range(3)] == [other.left_on(node) for node in range(3)]
                assert both[0].statistics() == both[1].statistics() and both[0].fell_back == both[1].fell_back
    for pools in both:
        pools.audit()


def test_a_batch_goes_on_where_a_node_ends_and_is_all_or_nothing(pools: NodePools) -> None:
    before = pools.statistics().frames_by_kind
    hfns = pools.allocate_many(FRAMES + 10, 0, OWNER, Fill.ZERO, (2, 0))
    nodes = [pools.node_of(hfn) for hfn in hfns.tolist()]
    assert nodes == [2] * FRAMES + [0] * 10
    assert pools.fell_back == 10
    after = pools.statistics()
    with pytest.raises(OutOfFrames) as caught:
        pools.allocate_many(FRAMES, 0, OWNER, nodes=(2, 0))
    assert str(caught.value) == (
        "no 0x200 free blocks of order 0 (0x1 frames each) for GUEST_PAGE 'test': 0x1f6 frames are free, the largest "
        "free block has order 8; free frames, ask for less or make the pool larger"
    )
    assert pools.statistics() == after
    with pytest.raises(
        MisuseError, match=r"^frame 0x0 belongs to GUEST_PAGE 'test', not to GUEST_PAGE 'other'"
    ):
        pools.free_many(hfns, 0, OTHER)
    for wrong in (
        [*hfns.tolist(), 1 << 40],
        [*hfns.tolist(), 5 * FRAMES // 2],
        [*hfns.tolist(), int(hfns[0])],
    ):
        with pytest.raises(MisuseError):
            pools.free_many(wrong, 0, OWNER)
        assert pools.statistics() == after, "nothing was freed"
    pools.free_many(hfns[::-1], 0, OWNER)
    pools.free_many([], 0, OWNER)
    pools.audit()
    assert pools.statistics().frames_by_kind == before


def test_a_claim_lies_on_the_nodes_that_are_named(pools: NodePools) -> None:
    with pools.claim(FRAMES + 100, OWNER, (2, 1)) as claim:
        assert (claim.left_on(2), claim.left_on(1), claim.left_on(0)) == (FRAMES, 100, 0)
        assert repr(claim) == (
            "<NodeClaim of 0x264 frames for GUEST_PAGE 'test', left: 0x200 on node 2, 0x64 on node 1>"
        )
        assert pools.frames_claimed == FRAMES + 100
        with pytest.raises(OutOfFrames, match="claims of others hold 0x200 frames"):
            pools.allocate(0, OTHER, nodes=(2,))
        assert pools.node_of(pools.allocate(0, OTHER, nodes=(2, 1))) == 1
        assert pools.node_of(pools.allocate(0, OWNER, claim=claim)) == 0
        assert claim.left == FRAMES + 100, "node 0 has none of it"
        hfns = pools.allocate_many(FRAMES + 50, 0, OWNER, nodes=(2, 1), claim=claim)
        assert (claim.left_on(2), claim.left_on(1)) == (0, 50)
        pools.free_many(hfns, 0, OWNER)
        assert claim.left == 50, "what is freed does not come back to it"
        pools.audit()
    claim.close()
    assert pools.frames_claimed == claim.left == 0
    with pytest.raises(MisuseError) as caught:
        pools.allocate(0, OWNER, claim=claim)
    assert str(caught.value) == (
        "the claim of GUEST_PAGE 'test' is closed: allocate inside its with block, or without it"
    )


def test_caches_are_drained_before_another_node_is_asked(pools: NodePools) -> None:
    with FrameCache(pools.pools[0], "vCPU 0", 64, 64) as cache:
        cache.free(cache.allocate(OWNER), OWNER)
        assert len(cache) == 64
        hfns = pools.allocate_many(FRAMES, 0, OWNER)
        assert len(cache) == 0 and {pools.node_of(hfn) for hfn in hfns.tolist()} == {0}
        pools.free_many(hfns, 0, OWNER)
        cache.free(cache.allocate(OWNER), OWNER)
        with pools.claim(FRAMES, OWNER) as claim:
            assert claim.left_on(0) == FRAMES and len(cache) == 0


def test_every_failure_is_unwound(pools: NodePools) -> None:
    before = pools.statistics().frames_by_kind

    def scenario() -> int:
        with pools.claim(FRAMES + 8, OWNER, (0, 2)) as claim:
            left = claim.left
            try:
                hfns = pools.allocate_many(FRAMES // 8 + 1, 3, OWNER, Fill.ZERO, (0, 2), claim)
            except OutOfFrames:
                assert claim.left == left and pools.frames_claimed == left
                raise
            pools.free_many(hfns, 3, OWNER)
        return len(hfns)

    def check() -> None:
        pools.audit()
        assert pools.statistics().frames_by_kind == before and pools.frames_claimed == 0

    outcomes = sweep_failures(scenario, check)
    assert {one.site for one in outcomes} >= {"claim", "allocate"}
    assert all(one.text for one in outcomes if one.site in ("claim", "allocate"))


def test_misuse(pools: NodePools) -> None:
    with pytest.raises(MisuseError, match=r"^frame 0x800 is on no node: the last frame is 0x7ff$"):
        pools.node_of(0x800)
    with pytest.raises(
        MisuseError, match=r"^No node was named for a block of GUEST_PAGE 'test': name at least one$"
    ):
        pools.allocate(0, OWNER, nodes=())
    for call, text in (
        (lambda: pools.allocate_many(-1, 0, OWNER), "cannot allocate -1 blocks: give a count of 0 or more"),
        (lambda: pools.claim(0, OWNER), "cannot claim 0 frames: give at least 1"),
        (
            lambda: pools.allocate_many(1, 0, OWNER, nodes=()),
            "No node was named for a block of GUEST_PAGE 'test': name at least one",
        ),
        (
            lambda: pools.claim(1, OWNER, ()),
            "No node was named for a block of GUEST_PAGE 'test': name at least one",
        ),
    ):
        with pytest.raises(MisuseError) as caught:
            call()
        assert str(caught.value) == text
    for wrong in (lambda: pools.allocate_many(1, 19, OWNER), lambda: pools.allocate_many(1, 0, FREE_OWNER)):
        with pytest.raises(MisuseError):
            wrong()
    with pytest.raises(
        MisuseError, match=r"^Nodes of 0x200000 bytes are not host memory of 0x400000: make both the same$"
    ):
        NodePools(Topology.declared([2 << 20]), HostMemory(4 << 20))
