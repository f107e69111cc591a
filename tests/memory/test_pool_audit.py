"""The audit of the pool: each invariant, broken by hand, is found and named."""

from __future__ import annotations

import pytest

from quire.errors import InternalError
from quire.memory import FrameCache, Owner, OwnerKind, Pool
from quire.memory.layout import LEVELS, Count

PAGE = Owner(OwnerKind.GUEST_PAGE, "vm0")
REPORT = " This is a bug in Quire: please report it."


def says(call, error):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


class TestAudit:
    @pytest.fixture
    def pool(self):
        pool = Pool(0x40, 16)
        assert [pool.allocate(order, PAGE) for order in (1, 0)] == [0x40, 0x42]
        pool.audit()
        return pool

    def broken(self, pool):
        message = says(pool.audit, InternalError)
        assert message.startswith("pool audit: ") and message.endswith("." + REPORT)
        return message.removeprefix("pool audit: ").removesuffix("." + REPORT)

    def test_unknown_tag(self, pool):
        pool._blocks.heads[0x44] = 0x9F
        assert self.broken(pool) == "frame 0x44 has the unknown block tag 0x9f"

    def test_gap(self, pool):
        pool._blocks.heads[0x42] = 0
        assert self.broken(pool) == "frame 0x43 starts a block, but the block before it ends at 0x42"

    def test_misaligned_block(self):
        pool = Pool(0, 4)
        pool._blocks.heads[:4] = [0x80, 0x81, 0, 0x80]
        assert self.broken(pool) == "frame 0x1 starts a block of order 1 but is not aligned to it"

    def test_two_owners_in_a_block(self, pool):
        pool._owner_ids[0x41] = 0
        assert self.broken(pool) == "frame 0x41 has owner 0x0, the frame before it in its block 0x1"

    def test_owned_free_block(self, pool):
        pool._owner_ids[0x43] = 1
        assert self.broken(pool) == "frame 0x43 starts a free block and has owner 0x1"

    def test_lost_block(self, pool):
        pool._owner_ids[0x42] = 0
        assert self.broken(pool) == "frame 0x42 starts an allocated block and has owner 0x0"

    def test_unregistered_owner(self, pool):
        pool._owner_ids[0x42] = 9
        assert self.broken(pool) == "frame 0x42 has the unregistered owner 0x9"

    def test_contents_of_a_free_frame(self, pool):
        pool._blocks.states[0x45] = 4
        assert self.broken(pool) == "frame 0x45 has contents LIVE and owner 0x0"

    @pytest.mark.parametrize("level", range(2))
    def test_wrong_bit_of_any_level(self, level):
        pool = Pool(0, 2000)
        pool.allocate(0, PAGE)
        word = pool._tally[Count.PLACES + 3 * LEVELS + level]
        pool._blocks.bits[word] ^= 0b100
        assert self.broken(pool) == (
            f"bit 0x2 of level {level} of the bitmap of order 3 is 1, the records say 0"
        )

    def test_block_missing_from_its_bitmap(self, pool):
        pool._blocks.bits[pool._tally[Count.PLACES + 2 * LEVELS]] = 0
        assert self.broken(pool) == "bit 0x11 of level 0 of the bitmap of order 2 is 0, the records say 1"

    def test_wrong_count_of_blocks(self, pool):
        pool._tally[Count.FREE_BLOCKS + 2] = 5
        assert self.broken(pool) == "1 blocks of order 2 are free, but 5 are counted"

    def test_buddies_not_joined(self):
        pool = Pool(0, 2)
        pool._blocks.heads[:2] = 0x80
        bits, tally = pool._blocks.bits, pool._tally
        bits[tally[Count.PLACES]], bits[tally[Count.PLACES + LEVELS]] = 3, 0
        tally[Count.FREE_BLOCKS], tally[Count.FREE_BLOCKS + 1] = 2, 0
        assert self.broken(pool) == "frame 0x0 and its buddy are free with order 0 and were not joined"

    def test_a_frame_lost_by_its_cache(self, pool):
        with FrameCache(pool, "vcpu0", 2, 2) as cache:
            pool.free(cache.allocate(PAGE), 0, PAGE)
            pool.audit()
            kept, cache._stack = cache._stack, []
            assert self.broken(pool) == (
                "CACHED 'vcpu0' has 0x0 frames on its stack, the records give it 0x1, or other ones"
            )
            cache._stack = kept

    def test_claims_of_more_than_is_free(self, pool):
        pool.claim(4, PAGE).left = 14
        assert self.broken(pool) == "claims hold 0xe frames, only 0xd are free"

    @pytest.mark.parametrize(
        ("count", "value", "message"),
        [
            (Count.ALLOCATIONS, 7, "allocations less frees is 7, the records say 2"),
            (Count.PEAK, 1, "the peak, if it were reached now is 3, the records say 1"),
            (
                Count.KINDS,
                0,
                "frames by owner kind is [0, 3, 0, 0, 0, 0, 0, 0, 0], "
                "the records say [13, 3, 0, 0, 0, 0, 0, 0, 0]",
            ),
            (Count.HELD + 1, 2, "frames by owner is [13, 2], the records say [13, 3]"),
            (Count.SPLITS, 6, "initial blocks + splits - joins is 7, the records say 5"),
        ],
    )
    def test_counters(self, pool, count, value, message):
        pool._tally[count] = value
        assert self.broken(pool) == message
