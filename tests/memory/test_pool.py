"""The pool: which frames, whose frames, what they cost, and what every misuse says."""

from __future__ import annotations

import itertools
import pickle
import timeit

import numpy as np
import pytest

from quire.errors import MisuseError
from quire.memory import (
    FRAME_SIZE,
    FREE_OWNER,
    HostMemory,
    OutOfFrames,
    Owner,
    OwnerKind,
    OwnerTable,
    Pool,
)

PAGE = Owner(OwnerKind.GUEST_PAGE, "vm0")
TABLE = Owner(OwnerKind.EPT_TABLE, "vm1")
GIB = 1 << 30


def says(call, error=MisuseError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.fixture
def host():
    with HostMemory(1024 * FRAME_SIZE) as memory:
        yield memory


class TestOwners:
    def test_numbers_and_lookup(self):
        table = OwnerTable()
        assert [table.register(owner) for owner in (PAGE, TABLE, PAGE, FREE_OWNER)] == [1, 2, 1, 0]
        assert table.lookup(2) == TABLE and table.find(PAGE) == 1 and len(table) == 3
        assert table.find(Owner(OwnerKind.VMCS, "vm0")) is None

    def test_equal_and_hash(self):
        assert Owner(OwnerKind.VMCS, "a") == Owner(OwnerKind.VMCS, "a") != Owner(OwnerKind.SECURE, "a")
        assert hash(Owner(OwnerKind.VMCS, "a")) == hash(Owner(OwnerKind.VMCS, "a"))
        assert str(TABLE) == "EPT_TABLE 'vm1'"

    @pytest.mark.parametrize("owner_id", [-1, 1])
    def test_unknown_number(self, owner_id):
        message = says(lambda: OwnerTable().lookup(owner_id))
        assert message == f"no owner has number {owner_id:#x}: the last is 0x0; register it first"

    def test_a_second_nobody(self):
        assert says(lambda: OwnerTable().register(Owner(OwnerKind.FREE, "me"))) == (
            "FREE 'me' cannot own frames: use another OwnerKind, FREE means that nobody does"
        )

    def test_numbers_run_out(self):
        table = OwnerTable()
        for number in range(1, 0x10000):
            assert table.register(Owner(OwnerKind.VMCS, str(number))) == number
        assert says(lambda: table.register(PAGE)) == (
            "GUEST_PAGE 'vm0' would be owner 0x10000 and the last number is 0xffff: "
            "name owners by role (one for each machine and kind), not by object"
        )


class TestPlaces:
    def test_lowest_address_first(self):
        pool = Pool(0, 8)
        assert [pool.allocate(0, PAGE) for _ in range(8)] == list(range(8))
        for hfn in (6, 3, 1):
            pool.free(hfn, 0, PAGE)
        assert [pool.allocate(0, PAGE) for _ in range(3)] == [1, 3, 6]

    def test_the_smallest_sufficient_block_keeps_large_ones_whole(self):
        pool = Pool(0, 16)
        blocks = [pool.allocate(2, PAGE) for _ in range(4)]
        pool.free(blocks[0], 2, PAGE)
        pool.free(blocks[3], 2, PAGE)
        small = pool.allocate(0, PAGE)
        assert small == 0
        assert pool.allocate(2, PAGE) == 12
        assert pool.allocate(1, PAGE) == 2

    def test_every_start_and_length_of_a_small_world(self):
        for first, count in itertools.product(range(9), range(1, 18)):
            pool = Pool(first, count)
            pool.audit()
            assert sorted(pool.allocate(0, PAGE) for _ in range(count)) == list(range(first, first + count))
            pool.audit()
            assert pool.frames_of(OwnerKind.FREE) == 0
            for hfn in range(first, first + count):
                pool.free(hfn, 0, PAGE)
            pool.audit()
            statistics = pool.statistics()
            assert statistics.splits == statistics.joins
            assert statistics.frames_peak == count

    def test_every_order_of_frees_joins_fully(self):
        for frees in itertools.permutations(range(5)):
            pool = Pool(0, 8)
            blocks = [(pool.allocate(order, PAGE), order) for order in (0, 1, 0, 1, 1)]
            for which in frees:
                pool.free(*blocks[which], PAGE)
                pool.audit()
            assert pool.statistics().free_blocks[:5] == (0, 0, 0, 1, 0)

    def test_blocks_are_aligned_by_frame_number(self):
        pool = Pool(0x3FF01, 0x1000)
        for order in (9, 8, 3, 9):
            assert pool.allocate(order, PAGE) % (1 << order) == 0
        pool.audit()

    def test_the_largest_block(self):
        pool = Pool(1, 1 << 19)
        hfn = pool.allocate(18, PAGE)
        assert hfn == 1 << 18
        assert pool.owner_of(hfn + (1 << 18) - 1) == PAGE
        assert says(lambda: pool.allocate(18, PAGE), OutOfFrames)
        pool.audit()
        pool.free(hfn, 18, PAGE)
        pool.audit()

    def test_numbers_stay_python_ints(self):
        pool = Pool(0, 8)
        hfn = pool.allocate(0, PAGE)
        pool.free(np.uint64(hfn), np.int64(0), PAGE)
        assert type(pool.allocate(np.int64(0), PAGE)) is int
        assert pool.owner_of(np.uint64(0)) == PAGE


class TestExhaustion:
    def test_message_and_data(self):
        pool = Pool(0, 5)
        pool.allocate(1, PAGE)
        with pytest.raises(OutOfFrames) as caught:
            pool.allocate(2, TABLE)
        error = caught.value
        assert str(error) == (
            "no free block of order 2 (0x4 frames) for EPT_TABLE 'vm1': 0x3 frames are free, "
            "the largest free block has order 1; GUEST_PAGE 'vm0' holds 0x2 frames; order 1 would fit; "
            "free frames, ask for less or make the pool larger"
        )
        assert (error.order, error.owner, error.free_frames, error.largest_free_order) == (2, TABLE, 3, 1)
        assert isinstance(error, MemoryError)
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error) and again.largest_free_order == 1
        pool.audit()

    def test_nothing_left(self):
        pool = Pool(7, 1)
        pool.allocate(0, PAGE)
        assert says(lambda: pool.allocate(0, PAGE), OutOfFrames) == (
            "no free block of order 0 (0x1 frames) for GUEST_PAGE 'vm0': 0x0 frames are free; "
            "GUEST_PAGE 'vm0' holds 0x1 frames; free frames, ask for less or make the pool larger"
        )


class TestMisuse:
    @pytest.fixture
    def pool(self):
        pool = Pool(0x100, 32)
        assert [pool.allocate(order, PAGE) for order in (3, 0, 0)] == [0x100, 0x108, 0x109]
        yield pool
        pool.audit()  # whatever was refused changed nothing
        assert pool.frames_of(OwnerKind.GUEST_PAGE) == 10

    @pytest.mark.parametrize("hfn", [0xFF, 0x120, -1, 1 << 64])
    def test_outside(self, pool, hfn):
        message = (
            f"frame {hfn:#x} is outside the pool of frames 0x100 to 0x11f: ask the pool that allocated it"
        )
        assert says(lambda: pool.free(hfn, 0, PAGE)) == message
        assert says(lambda: pool.owner_of(hfn)) == message

    @pytest.mark.parametrize("order", [-1, 19])
    def test_no_such_order(self, pool, order):
        message = f"no block has order {order}: give 0 (one frame) to 18 (0x40000 frames)"
        assert says(lambda: pool.allocate(order, PAGE)) == message
        assert says(lambda: pool.free(0x100, order, PAGE)) == message

    def test_misaligned(self, pool):
        assert says(lambda: pool.free(0x109, 1, PAGE)) == (
            "frame 0x109 cannot start a block of order 1: such blocks start at multiples of 0x2; "
            "pass the number that allocate() returned"
        )

    def test_never_allocated(self, pool):
        assert says(lambda: pool.free(0x110, 0, PAGE)) == (
            "frame 0x110 was never allocated: GUEST_PAGE 'vm0' can free only what allocate() returned"
        )

    def test_double_free(self, pool):
        hfn = pool.allocate(0, PAGE)
        pool.free(hfn, 0, PAGE)
        assert says(lambda: pool.free(hfn, 0, PAGE)) == (
            "frame 0x10a is free already: GUEST_PAGE 'vm0' frees it twice; forget the number after free()"
        )

    def test_inside_a_block(self, pool):
        assert says(lambda: pool.free(0x102, 1, PAGE)) == (
            "frame 0x102 is inside the block of order 3 at 0x100 of GUEST_PAGE 'vm0': "
            "free the whole block by its first frame"
        )

    def test_wrong_order(self, pool):
        assert says(lambda: pool.free(0x100, 2, PAGE)) == (
            "the block at frame 0x100 of GUEST_PAGE 'vm0' has order 3, not 2: "
            "free it with the order it was allocated with"
        )

    @pytest.mark.parametrize("owner", [TABLE, FREE_OWNER, Owner(OwnerKind.GUEST_PAGE, "vm1")])
    def test_foreign_free(self, pool, owner):
        message = f"frame 0x108 belongs to GUEST_PAGE 'vm0', not to {owner}: only its owner may free it"
        assert says(lambda: pool.free(0x108, 0, owner)) == message

    def test_nobody_cannot_own(self, pool):
        assert says(lambda: pool.allocate(0, FREE_OWNER)) == (
            "FREE 'free' cannot own frames: pass the Owner that will use and free the block"
        )

    @pytest.mark.parametrize(("first", "count"), [(-1, 4), (0, 0), (0, -1), (1 << 40, 1), (1, 1 << 40)])
    def test_wrong_range(self, first, count):
        assert says(lambda: Pool(first, count)) == (
            f"a pool cannot have {count:#x} frames from {first:#x}: "
            "give at least one frame, all below frame 0x10000000000"
        )

    def test_range_beyond_the_host(self, host):
        assert says(lambda: Pool(1000, 25, host)) == (
            "a pool cannot have 0x19 frames from 0x3e8: give at least one frame, all below frame 0x400"
        )

    def test_a_range_in_use(self, host):
        host.store(0x5010, 0xABC)
        assert says(lambda: Pool(0, 8, host)) == (
            "a pool must start empty, but hpa 0x5010 contains 0xabc: "
            "discard() the frames first, or leave them out"
        )
        Pool(0, 5, host).audit()


class TestOwnership:
    def test_each_frame_has_its_owner(self):
        pool = Pool(0, 16)
        page, table = pool.allocate(1, PAGE), pool.allocate(2, TABLE)
        owners = [pool.owner_of(hfn) for hfn in range(16)]
        assert owners[page : page + 2] == [PAGE] * 2 and owners[table : table + 4] == [TABLE] * 4
        assert owners.count(FREE_OWNER) == 10
        assert [pool.frames_of(kind) for kind in OwnerKind] == [10, 2, 0, 4, 0, 0, 0, 0, 0]

    def test_statistics(self):
        pool = Pool(0, 16)
        assert pool.statistics().fragmentation == 0.0
        pool.allocate(1, PAGE)
        pool.free(pool.allocate(2, TABLE), 2, TABLE)
        statistics = pool.statistics()
        assert (statistics.frames_total, statistics.frames_free, statistics.frames_used) == (16, 14, 2)
        assert (statistics.frames_peak, statistics.allocations, statistics.frees) == (6, 2, 1)
        assert (statistics.splits, statistics.joins) == (3, 0)
        assert statistics.free_blocks[:5] == (0, 1, 1, 1, 0)
        assert statistics.frames_by_kind[OwnerKind.GUEST_PAGE] == 2
        assert statistics.fragmentation == 1 - 8 / 14
        assert repr(pool) == "<Pool of 0x10 frames from 0x0, 0xe free>"

    def test_statistics_of_a_full_pool(self):
        pool = Pool(0, 1)
        pool.allocate(0, PAGE)
        assert pool.statistics().largest_free_order is None
        assert (pool.statistics().largest_free_frames, pool.statistics().fragmentation) == (0, 0.0)


class TestCost:
    def test_64_gib_are_cheap(self):
        with HostMemory(64 * GIB) as host:
            before = resident_kib()
            pool = Pool(0, host.frame_count, host)
            for order in (0, 9, 18):
                pool.free(pool.allocate(order, PAGE), order, PAGE)
            assert resident_kib() - before < 4096
            assert host.resident_bytes() == 0  # the poisoned frame 0 was in the order-9 block
            pool.audit()

    def test_one_frame_takes_microseconds(self):
        with HostMemory(64 * GIB) as host:
            pool = Pool(0, host.frame_count, host)
            pool.allocate(0, PAGE)
            runs = timeit.repeat(lambda: pool.free(pool.allocate(0, PAGE), 0, PAGE), number=500, repeat=5)
            assert min(runs) / 500 < 100e-6  # measured 4 us; the bound only catches a change of order


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4


def test_a_divided_block_is_freed_frame_by_frame_and_audits_at_each_step():
    pool = Pool(0, 16)
    owner = Owner(OwnerKind.GUEST_PAGE, "divided")
    first = pool.allocate(2, owner)
    pool.divide(first, 2, owner)
    pool.audit()
    for hfn in range(first, first + 4):
        pool.free(hfn, 0, owner)
        pool.audit()
    assert pool.statistics().frames_free == 16
