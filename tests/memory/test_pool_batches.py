"""Batches, caches, claims: beside the slow twin, exhaustively and at random; every message; every failure unwound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sampling import some

from quire.errors import MisuseError
from quire.memory import (
    FRAME_SIZE,
    FREE_OWNER,
    Fill,
    FrameCache,
    HostMemory,
    OutOfFrames,
    Owner,
    OwnerKind,
    Pool,
    UseAfterFree,
)
from quire.memory.reference import ReferencePool
from quire.testing import sweep_failures

PAGE = Owner(OwnerKind.GUEST_PAGE, "vm0")
TABLE = Owner(OwnerKind.EPT_TABLE, "vm1")


def says(call, error=MisuseError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def image(pool):
    """All records but what only grows: they describe the pool."""
    blocks = pool._blocks
    return [
        a.tobytes()
        for a in (blocks.heads[: pool._end], blocks.bits, blocks.counts, blocks.ids, blocks.states)
    ]


@pytest.mark.jitless
def test_kernels_equal_the_twin_on_every_small_world():
    """Every start from 0 to 4, every mix of three orders, every order of frees."""
    for first, orders in itertools.product(range(5), itertools.product(range(3), repeat=3)):
        for frees in itertools.permutations(range(3)):
            pool, twin = Pool(first, 20), ReferencePool(first, 20)
            taken = []
            for order in orders:
                hfn = twin.allocate(order, PAGE)
                assert hfn == pool.allocate(order, PAGE)
                taken.append((hfn, order))
            for which in frees:
                pool.free(*taken[which], PAGE)
                twin.free(taken[which][0])
                by_order = [0] * 19
                for order, _ in twin.free_blocks():
                    by_order[order] += 1
                assert list(pool.statistics().free_blocks) == by_order
        pool.audit()


@pytest.mark.jitless
def test_a_batch_is_as_many_single_frames():
    for order, count in ((0, 9), (1, 4), (2, 2)):
        one, many = Pool(3, 17), Pool(3, 17)
        for pool in (one, many):
            pool.allocate(0, TABLE)
            pool.free(pool.allocate(1, TABLE), 1, TABLE)
        singly = [one.allocate(order, PAGE) for _ in range(count)]
        batch = many.allocate_many(count, order, PAGE)
        assert batch.dtype == np.uint64 and batch.tolist() == singly
        assert image(one) == image(many)
        for hfn in reversed(singly):
            one.free(hfn, order, PAGE)
        many.free_many(batch, order, PAGE)
        assert image(one) == image(many)
        many.audit()


class TestBatches:
    @pytest.mark.parametrize("poison", [True, False])
    @pytest.mark.parametrize("fill", Fill)
    @pytest.mark.parametrize("order", [0, 2, 9])
    def test_contents(self, order, fill, poison):
        with HostMemory(2048 * FRAME_SIZE) as host:
            pool, count = Pool(0, 2048, host, poison), 3
            for _ in range(2):
                hfns = pool.allocate_many(count, order, PAGE, fill)
                frames = (hfns[:, None] + np.arange(1 << order, dtype=np.uint64)).ravel()
                if fill is Fill.ZERO or (order >= 9 and poison):
                    assert not host.frames[frames].any()
                elif poison:
                    assert (host.frames[frames] == 0xA5A5A5A5A5A5A5A5).all()
                host.frames[frames] = 1
                pool.free_many(hfns[::-1], order, PAGE)
                if order >= 9:
                    assert host.is_hole(0, 2048)
                elif poison:
                    assert (host.frames[frames] == 0x5A5A5A5A5A5A5A5A).all()
            pool.audit()

    @pytest.mark.parametrize("fresh", [True, False])
    def test_a_write_after_free_refuses_the_batch(self, fresh):
        with HostMemory(64 * FRAME_SIZE) as host:
            pool = Pool(0, 64, host)
            if not fresh:
                pool.free_many(pool.allocate_many(8, 0, PAGE), 0, PAGE)
            host.store(5 * FRAME_SIZE + 16, 9)
            before = image(pool)
            with pytest.raises(UseAfterFree) as caught:
                pool.allocate_many(8, 0, PAGE)
            assert (caught.value.hfn, caught.value.offset, caught.value.value) == (5, 16, 9)
            assert image(pool) == before

    def test_too_many(self):
        pool = Pool(0, 16)
        pool.allocate(1, TABLE)
        before = image(pool)
        assert says(
            lambda: pool.allocate_many(7, 1, PAGE) is pool.allocate_many(1, 1, PAGE), OutOfFrames
        ) == (
            "no free block of order 1 (0x2 frames) for GUEST_PAGE 'vm0': 0x0 frames are free; "
            "GUEST_PAGE 'vm0' holds 0xe frames; EPT_TABLE 'vm1' holds 0x2 frames; "
            "free frames, ask for less or make the pool larger"
        )
        pool.free_many(range(2, 16, 2), 1, PAGE)
        pool.owners.register(PAGE)
        assert says(lambda: pool.allocate_many(8, 1, PAGE), OutOfFrames) == (
            "no 0x8 free blocks of order 1 (0x2 frames each) for GUEST_PAGE 'vm0': 0xe frames are free, "
            "the largest free block has order 3; EPT_TABLE 'vm1' holds 0x2 frames; "
            "free frames, ask for less or make the pool larger"
        )
        assert [frames[: len(before[0])] for frames in image(pool)[:2]] == [
            b[: len(before[0])] for b in before[:2]
        ]
        assert pool.allocate_many(0, 0, PAGE).tolist() == []
        pool.free_many([], 0, PAGE)
        assert (
            says(lambda: pool.allocate_many(-1, 0, PAGE))
            == "cannot allocate -1 blocks: give a count of 0 or more"
        )

    def test_free_many_refuses_whole(self):
        pool = Pool(0, 16)
        hfns = pool.allocate_many(4, 0, PAGE)
        pool.allocate(0, TABLE)
        before = image(pool)
        for wrong, message in (
            (
                [0, 1, 0],
                "frame 0x0 is named twice, at 0x2 of the batch of GUEST_PAGE 'vm0' again: free each block once",
            ),
            (
                [3, 4],
                "frame 0x4 belongs to EPT_TABLE 'vm1', not to GUEST_PAGE 'vm0': only its owner may free it",
            ),
            (
                [0, 9],
                "frame 0x9 was never allocated: GUEST_PAGE 'vm0' can free only what allocate() returned",
            ),
            ([0, 16], "frame 0x10 is outside the pool of frames 0x0 to 0xf: ask the pool that allocated it"),
            (
                [0, -1],
                "frame 0xffffffffffffffff is outside the pool of frames 0x0 to 0xf: ask the pool that allocated it",
            ),
            (
                [[0]],
                "cannot free blocks given as 2 dimensions of int64: "
                "give one dimension of integers, as allocate_many() returned",
            ),
            (
                [0.5],
                "cannot free blocks given as 1 dimensions of float64: "
                "give one dimension of integers, as allocate_many() returned",
            ),
        ):
            assert says(lambda wrong=wrong: pool.free_many(wrong, 0, PAGE)) == message
            assert image(pool) == before
        assert says(lambda: pool.free_many(hfns, 0, TABLE)).startswith("frame 0x0 belongs to GUEST_PAGE")
        pool.free_many(hfns, 0, PAGE)
        pool.audit()

    @pytest.mark.parametrize("batch", [True, False])
    def test_a_refused_discard_frees_all_the_same(self, batch):
        with HostMemory(1024 * FRAME_SIZE) as host:
            pool = Pool(0, 1024, host)

            def scenario():
                hfns = pool.allocate_many(2, 9, PAGE)
                host.write(0, b"stale")
                if batch:
                    pool.free_many(hfns, 9, PAGE)
                else:
                    for hfn in hfns.tolist():
                        pool.free(hfn, 9, PAGE)
                assert pool.frames_of(OwnerKind.FREE) == 1024
                host.discard(0, 0)

            def check():
                pool.audit()
                assert pool.frames_of(OwnerKind.FREE) == 1024
                assert pool.allocate(9, PAGE, Fill.ZERO) == 0
                assert host.read(0, 5) == bytes(5)
                pool.free(0, 9, PAGE)

            outcomes = sweep_failures(scenario, check)
            assert [one.site for one in outcomes] == ["allocate", "allocate", "discard", "discard"]
            assert [bool(one.text) for one in outcomes] == [True, True, False, False]


class TestCaches:
    def test_frames_go_to_and_fro_in_batches(self):
        pool = Pool(0, 64)
        with FrameCache(pool, "vcpu0", 4, 6) as cache:
            assert [cache.allocate(PAGE) for _ in range(3)] == [0, 1, 2]
            assert (pool.statistics().frames_cached, len(cache), pool.owner_of(3)) == (1, 1, cache.owner)
            for hfn in (2, 0, 1):
                cache.free(hfn, PAGE)
                pool.audit()
            assert cache.frames == (3, 2, 0, 1)
            assert cache.allocate(TABLE) == 1, "the last one freed"
            assert pool.owner_of(1) == TABLE
            more = [cache.allocate(PAGE) for _ in range(7)]
            for hfn in more:
                cache.free(hfn, PAGE)
            assert len(cache) == 3, "a batch went back"
            cache.free(1, TABLE)
            assert repr(cache) == "<FrameCache 'vcpu0' of 0x4 frames, at most 0x6>"
            pool.audit()
        assert pool.frames_of(OwnerKind.FREE) == 64 and pool.statistics().splits == pool.statistics().joins
        assert (
            says(lambda: cache.allocate(PAGE)) == "the cache 'vcpu0' is closed: make another, or ask the pool"
        )
        cache.close()

    def test_an_exhausted_pool_drains_its_caches(self):
        pool = Pool(0, 8)
        one, two = FrameCache(pool, "vcpu0", 4, 4), FrameCache(pool, "vcpu1", 4, 4)
        one.free(one.allocate(PAGE), PAGE)
        two.free(two.allocate(PAGE), PAGE)
        assert pool.frames_of(OwnerKind.FREE) == 0
        assert pool.allocate(3, PAGE) == 0
        assert says(lambda: one.allocate(PAGE), OutOfFrames) == (
            "no free block of order 0 (0x1 frames) for GUEST_PAGE 'vm0': 0x0 frames are free; "
            "GUEST_PAGE 'vm0' holds 0x8 frames; free frames, ask for less or make the pool larger"
        )
        pool.free(0, 3, PAGE)
        one.free(one.allocate(PAGE), PAGE)
        assert two.allocate(PAGE) == 4, "a smaller batch"
        assert len(pool.allocate_many(7, 0, PAGE)) == 7
        pool.audit()

    def test_contents(self):
        with HostMemory(64 * FRAME_SIZE) as host:
            pool = Pool(0, 64, host)
            with FrameCache(pool, "vcpu0", 2, 4) as cache:
                hfn = cache.allocate(PAGE, Fill.ZERO)
                assert not host.frames[hfn].any()
                cache.free(hfn, PAGE)
                assert (host.octets[:FRAME_SIZE] == 0x5A).all()
                host.store(8, 3)
                assert says(lambda: cache.allocate(PAGE), UseAfterFree).startswith(
                    "frame 0x0 was written while"
                )
                host.store(8, 0x5A5A5A5A5A5A5A5A)
                assert cache.allocate(PAGE) == 0 and (host.octets[:FRAME_SIZE] == 0xA5).all()
                cache.free(0, PAGE)
                pool.audit()

    def test_misuse(self):
        pool = Pool(0, 16)
        assert says(lambda: FrameCache(pool, "c", 5, 4)) == (
            "a cache cannot have batches of 0x5 frames and at most 0x4: "
            "give at least 0x1, and no batch larger than the cache"
        )
        with FrameCache(pool, "c", 2, 4) as cache:
            assert says(lambda: FrameCache(pool, "c")) == (
                "<Pool of 0x10 frames from 0x0, 0x10 free> has a cache 'c' already: "
                "give each cache a name of its own"
            )
            hfn = cache.allocate(PAGE)
            assert says(lambda: cache.free(hfn, TABLE)) == (
                "frame 0x0 belongs to GUEST_PAGE 'vm0', not to EPT_TABLE 'vm1': only its owner may free it"
            )
            own = "CACHED 'c' is a cache's own: its FrameCache allocates and frees in its name"
            assert says(lambda: pool.free(1, 0, cache.owner)) == own
            assert says(lambda: pool.free_many([1], 0, cache.owner)) == own
            assert says(lambda: cache.free(1, cache.owner)) == own
            assert says(lambda: pool.allocate(0, cache.owner)) == own
            assert says(lambda: cache.allocate(FREE_OWNER)) == (
                "FREE 'free' cannot own frames: pass the Owner that will use and free the block"
            )
            pool.audit()


class TestClaims:
    def test_others_cannot_take_what_is_claimed(self):
        pool = Pool(0, 16)
        with pool.claim(10, PAGE) as claim:
            pool.allocate(2, TABLE)
            assert says(lambda: pool.allocate(2, TABLE), OutOfFrames) == (
                "no free block of order 2 (0x4 frames) for EPT_TABLE 'vm1': 0xc frames are free, the largest free "
                "block has order 3; EPT_TABLE 'vm1' holds 0x4 frames; claims of others hold 0xa frames; "
                "order 1 would fit; free frames, ask for less or make the pool larger"
            )
            assert pool.allocate(0, TABLE) == 4
            assert pool.allocate(3, PAGE, claim=claim) == 8
            assert (claim.left, pool.statistics().frames_claimed) == (2, 2)
            assert repr(claim) == "<Claim of 0xa frames for GUEST_PAGE 'vm0', 0x2 left>"
            assert len(pool.allocate_many(3, 0, PAGE, claim=claim)) == 3, "one more than claimed"
            assert claim.left == 0
            pool.audit()
        assert pool.frames_claimed == 0

    def test_refused(self):
        pool, other = Pool(0, 16), Pool(0, 16)
        cache = FrameCache(pool, "c", 8, 8)
        cache.free(cache.allocate(TABLE), TABLE)
        first = pool.claim(10, PAGE)
        assert len(cache) == 0, "a claim drains caches as an allocation does"
        assert says(lambda: pool.claim(7, TABLE), OutOfFrames) == (
            "no 0x7 free blocks of order 0 (0x1 frames each) for EPT_TABLE 'vm1': 0x10 frames are free, the largest "
            "free block has order 4; claims of others hold 0xa frames; "
            "free frames, ask for less or make the pool larger"
        )
        assert says(lambda: pool.claim(0, TABLE)) == "cannot claim 0 frames: give at least 1"
        assert says(lambda: other.allocate(0, PAGE, claim=first)) == (
            "the claim of GUEST_PAGE 'vm0' is on <Pool of 0x10 frames from 0x0, 0x10 free>, not on "
            "<Pool of 0x10 frames from 0x0, 0x10 free>: claim frames of this pool"
        )
        first.close()
        first.close()
        assert says(lambda: pool.allocate(0, PAGE, claim=first)) == (
            "the claim of GUEST_PAGE 'vm0' is closed: allocate inside its with block, or without it"
        )
        assert pool.claim(16, TABLE).left == 16

    def test_a_cache_takes_nothing_that_is_claimed(self):
        pool = Pool(0, 16)
        with pool.claim(14, PAGE), FrameCache(pool, "c", 4, 4) as cache:
            assert [cache.allocate(TABLE), cache.allocate(TABLE)] == [0, 1]
            assert says(lambda: cache.allocate(TABLE), OutOfFrames).endswith(
                "claims of others hold 0xe frames; free frames, ask for less or make the pool larger"
            )


def test_contiguity():
    pool = Pool(0, 16)
    frames = pool.allocate_many(16, 0, PAGE)
    for hfn in (0, 2, 3, 8, 9, 10, 11):
        pool.free(int(frames[hfn]), 0, PAGE)
    statistics = pool.statistics()
    assert statistics.free_frames_by_order[:4] == (1, 2, 4, 0)
    assert statistics.unusable[:4] == (0.0, 1 / 7, 3 / 7, 1.0)
    assert Pool(0, 16).statistics().unusable[4:6] == (0.0, 1.0)


def test_every_failure_is_unwound():
    with HostMemory(64 * FRAME_SIZE) as host:
        pool = Pool(0, 64, host)
        pool.owners.register(PAGE)

        def scenario():
            with FrameCache(pool, "c", 4, 4) as cache, pool.claim(8, PAGE) as claim:
                hfns = pool.allocate_many(5, 1, PAGE, claim=claim)
                try:
                    cache.free(cache.allocate(PAGE), PAGE)
                    pool.free(pool.allocate(0, PAGE), 0, PAGE)
                finally:
                    pool.free_many(hfns, 1, PAGE)

        def check():
            pool.audit()
            statistics = pool.statistics()
            assert statistics.frames_free == 64 and statistics.frames_claimed == 0
            assert statistics.free_blocks[6] == 1

        sites = [outcome.site for outcome in sweep_failures(scenario, check)]
        assert sites == ["claim", *["allocate"] * 5, "refill a cache", "allocate"]


class BatchMachine(RuleBasedStateMachine):
    """Single frames, batches, a cache and claims on one pool; the twin knows each frame, but not which are cached."""

    @initialize(first=st.integers(0, 70), count=st.integers(1, 200))
    def start(self, first, count):
        self.pool = Pool(first, count)
        self.cache = FrameCache(self.pool, "vcpu0", 4, 9)
        self.mine = {}  # first frame: order
        self.claims = []

    @rule(order=st.integers(0, 4), count=st.integers(0, 12), use=st.booleans())
    def allocate_many(self, order, count, use):
        claim = self.claims[-1] if use and self.claims else None
        left = claim.left if claim else 0
        try:
            hfns = self.pool.allocate_many(count, order, PAGE, claim=claim).tolist()
        except OutOfFrames:
            assert len(self.cache) == 0
            return
        self.note(hfns, order)
        if claim:
            assert claim.left == left - min(left, count << order)

    @rule(order=st.integers(0, 4))
    def allocate(self, order):
        twin = ReferencePool(self.pool.first_hfn, self.pool.frame_count)
        for hfn in twin.owners:
            owner = self.pool.owner_of(hfn)
            twin.owners[hfn] = None if owner is FREE_OWNER else owner
        place, drained = twin.place(order), len(self.cache)
        try:
            hfn = self.pool.allocate(order, PAGE)
        except OutOfFrames as error:
            assert len(self.cache) == 0
            assert self.pool.statistics().largest_free_order == error.largest_free_order
            return
        if len(self.cache) == drained:
            assert hfn == place
        self.note([hfn], order)

    @rule()
    def allocate_cached(self):
        try:
            self.note([self.cache.allocate(PAGE)], 0)
        except OutOfFrames:
            assert self.pool.frames_of(OwnerKind.FREE) == self.pool.frames_claimed

    @rule(data=st.data(), way=st.sampled_from(["one", "many", "cache"]))
    def free(self, data, way):
        if not self.mine:
            return
        order = self.mine[data.draw(st.sampled_from(sorted(self.mine)))]
        fitting = [hfn for hfn, its in sorted(self.mine.items()) if its == order]
        chosen = data.draw(st.lists(st.sampled_from(fitting), unique=True, max_size=9))
        if way == "many":
            self.pool.free_many(chosen, order, PAGE)
        for hfn in chosen:
            if way == "cache" and order == 0:
                self.cache.free(hfn, PAGE)
            elif way != "many":
                self.pool.free(hfn, order, PAGE)
            del self.mine[hfn]

    @rule(frames=st.integers(1, 40))
    def claim(self, frames):
        try:
            self.claims.append(self.pool.claim(frames, TABLE))
        except OutOfFrames:
            assert self.pool.frames_of(OwnerKind.FREE) - self.pool.frames_claimed < frames

    @rule()
    def close_claim(self):
        if self.claims:
            self.claims.pop(0).close()

    @rule()
    def drain(self):
        self.cache.drain()

    def note(self, hfns, order):
        for hfn in hfns:
            assert hfn not in self.mine and not hfn % (1 << order)
            self.mine[hfn] = order

    @invariant()
    def is_consistent(self):
        if not hasattr(self, "pool"):
            return
        self.pool.audit()
        assert self.pool.frames_of(OwnerKind.GUEST_PAGE) == sum(1 << order for order in self.mine.values())
        assert self.pool.frames_claimed == sum(claim.left for claim in self.claims)
        assert self.pool.statistics().frames_cached == len(self.cache) <= 9


BatchMachine.TestCase.settings = settings(
    max_examples=some(40, 20),
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestBatchMachine = BatchMachine.TestCase


class TestTrim:
    def test_every_length_of_a_block(self):
        for order, keep in [(block, part) for block in range(5) for part in range(1, (1 << block) + 1)]:
            pool = Pool(0, 64)
            pool.allocate(0, TABLE)
            before = image(pool)
            hfn = pool.allocate(order, PAGE)
            pool.trim(hfn, order, keep, PAGE)
            pool.audit()
            assert pool.frames_of(OwnerKind.GUEST_PAGE) == keep
            pool.free_many(range(hfn, hfn + keep), 0, PAGE)
            pool.audit()
            assert image(pool)[0] == before[0] and image(pool)[1] == before[1]

    @pytest.mark.parametrize("frames", [0, 5, -1])
    def test_misuse(self, frames):
        pool = Pool(0, 16)
        hfn = pool.allocate(2, PAGE)
        assert says(lambda: pool.trim(hfn, 2, frames, PAGE)) == (
            f"cannot keep {frames:#x} frames of a block of order 2: give 0x1 to 0x4"
        )
        assert says(lambda: pool.trim(hfn, 2, 1, TABLE)) == (
            "frame 0x0 belongs to GUEST_PAGE 'vm0', not to EPT_TABLE 'vm1': only its owner may free it"
        )
        pool.audit()


def test_closed_memory_is_said_and_nothing_changes():
    host = HostMemory(64 * FRAME_SIZE, "gone")
    pool = Pool(0, 64, host)
    cache = FrameCache(pool, "c", 4, 8)
    one, kept, batch = pool.allocate(0, PAGE), cache.allocate(PAGE), pool.allocate_many(3, 1, PAGE)
    pool.free(pool.allocate(0, PAGE), 0, PAGE)
    before = image(pool)
    host.close()
    for call in (
        lambda: pool.allocate(0, PAGE),
        lambda: pool.allocate(3, PAGE, Fill.ZERO),
        lambda: pool.allocate_many(3, 0, PAGE),
        lambda: pool.free(one, 0, PAGE),
        lambda: pool.free_many(batch, 1, PAGE),
        lambda: cache.allocate(PAGE),
        lambda: cache.free(kept, PAGE),
    ):
        assert says(call) == "host memory 'gone' is closed: use it before close() or make another"
        pool.audit()
        assert image(pool) == before
