"""The audit of the pool: each invariant, broken by hand, is found and named."""

from __future__ import annotations

import pytest

from quire.errors import InternalError
from quire.memory import Owner, OwnerKind, Pool

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
        pool._contents.states[0x45] = 4
        assert self.broken(pool) == "frame 0x45 has contents LIVE and owner 0x0"

    def test_block_missing_from_its_list(self, pool):
        pool._blocks._heaps[2].clear()
        assert self.broken(pool) == (
            "frame 0x44 is free with order 2 in only one of the free list and the records"
        )

    def test_wrong_count_of_blocks(self, pool):
        pool._blocks.free_blocks[2] = 5
        assert self.broken(pool) == "1 blocks of order 2 are free, but 5 are counted"

    def test_buddies_not_joined(self):
        pool = Pool(0, 2)
        pool._blocks.heads[:2] = 0x80
        pool._blocks._heaps[:2] = [[0, 1], []]
        pool._blocks.free_blocks[:2] = [2, 0]
        assert self.broken(pool) == "frame 0x0 and its buddy are free with order 0 and were not joined"

    @pytest.mark.parametrize(
        ("attribute", "value", "message"),
        [
            ("_allocations", 7, "allocations less frees is 7, the records say 2"),
            ("_peak", 1, "the peak, if it were reached now is 3, the records say 1"),
            (
                "_frames_by_kind",
                [0] * 8,
                "frames by owner kind is [0, 0, 0, 0, 0, 0, 0, 0], the records say [13, 3, 0, 0, 0, 0, 0, 0]",
            ),
        ],
    )
    def test_counters(self, pool, attribute, value, message):
        setattr(pool, attribute, value)
        assert self.broken(pool) == message

    def test_splits(self, pool):
        pool._blocks.splits += 1
        assert self.broken(pool) == "initial blocks + splits - joins is 6, the records say 5"
