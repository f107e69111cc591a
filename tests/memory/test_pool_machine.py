"""The pool against its slow twin: a dict of frames, searched from the bottom; an audit after every step."""

from __future__ import annotations

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
    HostMemory,
    OutOfFrames,
    Owner,
    OwnerKind,
    Pool,
    UseAfterFree,
)
from quire.memory.reference import ReferencePool

OWNERS = [
    Owner(OwnerKind.GUEST_PAGE, "vm0"),
    Owner(OwnerKind.EPT_TABLE, "vm0"),
    Owner(OwnerKind.GUEST_PAGE, "vm1"),
]
HOST_FRAMES = 1600
ORDERS = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, 9, 10])
owners = st.sampled_from(OWNERS)


class PoolMachine(RuleBasedStateMachine):
    host = None

    @initialize(
        first=st.integers(0, 600), count=st.integers(1, 1000), poison=st.booleans(), real=st.booleans()
    )
    def start(self, first, count, poison, real):
        self.host = HostMemory(HOST_FRAMES * FRAME_SIZE) if real else None
        self.pool = Pool(first, count, self.host, poison)
        self.model = ReferencePool(first, count)
        self.first, self.count, self.poison = first, count, poison
        self.allocations = self.frees = self.peak = 0

    def teardown(self):
        if self.host is not None:
            self.host.close()

    @rule(
        order=ORDERS,
        owner=owners,
        fill=st.sampled_from(Fill),
        times=st.integers(1, 6),
        scribble=st.booleans(),
    )
    def allocate(self, order, owner, fill, times, scribble):
        for _ in range(times):
            place = self.model.place(order)
            if place is None:
                with pytest.raises(OutOfFrames) as caught:
                    self.pool.allocate(order, owner, fill)
                blocks = self.model.free_blocks()
                assert caught.value.largest_free_order == (max(blocks)[0] if blocks else None)
                assert caught.value.free_frames == sum(1 << size for size, _ in blocks)
                return
            assert self.pool.allocate(order, owner, fill) == place
            self.model.allocate(order, owner)
            self.allocations += 1
            self.peak = max(self.peak, self.used())
            self.check_new(place, order, fill)
            if scribble and self.host is not None:
                self.host.fill(place, 1 << order, 0xC3)

    def check_new(self, hfn, order, fill):
        if self.host is None:
            return
        block = self.host.octets[hfn * FRAME_SIZE : (hfn + (1 << order)) * FRAME_SIZE]
        if fill is Fill.ZERO or (order >= 9 and self.poison):
            assert not block.any()
        elif self.poison:
            assert (block == 0xA5).all()

    @rule(data=st.data(), times=st.integers(1, 8))
    def free(self, data, times):
        for _ in range(min(times, len(self.model.blocks))):
            hfn = data.draw(st.sampled_from(sorted(self.model.blocks)))
            order, owner = self.model.blocks[hfn]
            self.pool.free(hfn, order, owner)
            self.model.free(hfn)
            self.frees += 1
            if self.host is not None and order >= 9:
                assert self.host.is_hole(hfn, 1 << order)

    @rule(hfn=st.integers(-5, 1700), order=st.integers(-1, 19), owner=owners)
    def free_at_random(self, hfn, order, owner):
        if self.model.blocks.get(hfn) != (order, owner):
            with pytest.raises(MisuseError):
                self.pool.free(hfn, order, owner)

    @rule(data=st.data(), offset=st.integers(0, 511))
    def write_after_free(self, data, offset):
        place = self.model.place(0)
        if self.host is None or not self.poison or place is None:
            return
        hpa = place * FRAME_SIZE + offset * 8
        before = self.host.load(hpa)
        self.host.store(hpa, before ^ 1 << data.draw(st.integers(0, 63)))
        with pytest.raises(UseAfterFree) as caught:
            self.pool.allocate(0, OWNERS[0])
        assert (caught.value.hfn, caught.value.offset, caught.value.expected) == (place, offset * 8, before)
        self.host.store(hpa, before)

    def used(self):
        return sum(owner is not None for owner in self.model.owners.values())

    @invariant()
    def agrees_with_the_model(self):
        if not hasattr(self, "pool"):
            return
        self.pool.audit()
        assert [self.pool.owner_of(hfn) for hfn in self.model.owners] == [
            owner or FREE_OWNER for owner in self.model.owners.values()
        ]
        statistics = self.pool.statistics()
        by_order = [0] * 19
        for order, _ in self.model.free_blocks():
            by_order[order] += 1
        assert list(statistics.free_blocks) == by_order
        assert (statistics.allocations, statistics.frees) == (self.allocations, self.frees)
        assert (statistics.frames_peak, statistics.frames_used) == (self.peak, self.used())


PoolMachine.TestCase.settings = settings(
    max_examples=some(60, 30),
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPoolMachine = PoolMachine.TestCase
