"""Two guests, secrets, claims and caches on one host with nodes, in any order: each sees its own memory alone."""

from collections.abc import Callable
from contextlib import ExitStack

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sampling import some
from shared_host import Subject, pools_of

from quire.arch import EPTP
from quire.memory import Claim, Fill, FrameCache, OutOfFrames, Owner, OwnerKind, Pool
from quire.memory.numa import Policy, Topology
from quire.memory.secure import SecurePool, SecureRegion
from quire.mmu import Host, NumaConfig, ReplicatedTables
from quire.observe import DirtyWay
from quire.paging import Context

TOPOLOGY = Topology.declared([8 << 20, 6 << 20, 4 << 20])
NODES = st.integers(0, 2)
GUESTS = st.integers(0, 1)
SLOTS = st.integers(0, 11)
MINE = Owner(OwnerKind.HYPERVISOR, "test")
POLICIES = st.sampled_from(
    ["local", "first-touch", "preferred:1", "bind:0,2", "interleave", "weighted-interleave:3,1,2"]
)


class HostMachine(RuleBasedStateMachine):
    """`kinds`: Mmu, host page, whether every node has a copy of its tables, whether flushes are checked."""

    kinds: tuple[tuple[str, int, bool, bool], ...] = (
        ("ept", 2 << 20, False, False),
        ("shadow", 4 << 10, False, False),
    )

    @initialize(policies=st.tuples(POLICIES, POLICIES), nodes=st.tuples(NODES, NODES))
    def start(self, policies: tuple[str, str], nodes: tuple[int, int]) -> None:
        self.host = Host.with_nodes(TOPOLOGY)
        self.pools = pools_of(self.host)
        self.at_start = self.pools.statistics().frames_by_kind
        self.subjects = []
        for number, (mmu, page, replicate, check) in enumerate(self.kinds):
            numa = NumaConfig(
                TOPOLOGY, Policy.parse(policies[number]), replicate=replicate, vcpu_node=nodes[number]
            )
            self.subjects.append(Subject(self.host, mmu, page, numa, number + 1, check))
        self.others = [one.state() for one in self.subjects]
        self.secure = [
            SecurePool(self.host.memory, pool, f"node {n}", _bytes) for n, pool in enumerate(self.pools.pools)
        ]
        self.secrets: dict[SecureRegion, tuple[int, bytes]] = {}
        self.claims: list[tuple[Pool, Claim]] = []
        self.caches = [FrameCache(pool, f"vCPU {n}", 16, 48) for n, pool in enumerate(self.pools.pools)]
        self.taken: dict[int, tuple[Pool | FrameCache, int]] = {}
        self.marks = 0

    def attempt(self, who: Subject | None, action: Callable[[], object]) -> None:
        """Do something for `who`, which a host without frames may refuse; the others have what they had."""
        before = [one.state() for one in self.subjects]
        try:
            action()
        except OutOfFrames:
            pass
        for one, state in zip(self.subjects, before, strict=True):
            assert one is who or one.state() == state, "the other guest was touched"

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "pools"):
            return
        self.pools.audit()
        blocks = 0
        for one in self.subjects:
            one.check()
            blocks += one.mmu.resident_bytes() >> 12
        assert self.pools.frames_of(OwnerKind.GUEST_PAGE) == blocks, "no page is two guests', none is lost"
        tables = sum(
            len(one.mmu.memory_map.addresses()) * (3 if kind[2] else 1)
            for one, kind in zip(self.subjects, self.kinds, strict=True)
        )
        assert self.pools.frames_of(OwnerKind.EPT_TABLE) == tables
        for hfn, (_, mark) in self.taken.items():
            assert self.host.memory.load(hfn << 12) == mark
        for region, (_, data) in self.secrets.items():
            with region.open() as view:
                assert view == data

    def teardown(self) -> None:
        if not hasattr(self, "pools"):
            return
        for one in self.subjects:
            if one.log is not None:
                one.stop_log()
            one.machine.close()
        for hfn, (source, _) in self.taken.items():
            _free(source, hfn)
        for cache in self.caches:
            cache.close()
        for _, claim in self.claims:
            claim.close()
        for secure in self.secure:
            secure.close()
        self.pools.audit()
        assert self.pools.statistics().frames_by_kind == self.at_start, "nothing stays behind"
        self.host.close()

    @rule(who=GUESTS, slot=SLOTS)
    def map(self, who: int, slot: int) -> None:
        one = self.subjects[who]
        self.attempt(one, lambda: one.unmap(slot) if slot in one.pages else one.map(slot))

    @rule(
        who=GUESTS,
        choice=SLOTS,
        offset=st.integers(0, 4088),
        value=st.binary(min_size=1, max_size=8),
        by_kernel=st.booleans(),
    )
    def write(self, who: int, choice: int, offset: int, value: bytes, by_kernel: bool) -> None:
        one = self.subjects[who]
        if choice not in one.pages:
            self.attempt(one, lambda: one.map(choice))
        if choice in one.pages:
            self.attempt(one, lambda: one.write(choice, offset, value, by_kernel))

    @rule(who=GUESTS, choice=SLOTS)
    def read(self, who: int, choice: int) -> None:
        one = self.subjects[who]
        if choice in one.pages:
            self.attempt(one, lambda: one.read(choice))

    @rule(who=GUESTS, choice=st.integers(0, 63), node=NODES)
    def migrate(self, who: int, choice: int, node: int) -> None:
        one = self.subjects[who]
        self.attempt(one, lambda: one.migrate(choice, node))

    @rule(
        who=GUESTS,
        accesses=st.dictionaries(st.integers(0, 400), st.tuples(NODES, st.integers(1, 5)), max_size=6),
        limit=st.none() | st.integers(0, 2),
    )
    def balance(self, who: int, accesses: dict[int, tuple[int, int]], limit: int | None) -> None:
        one = self.subjects[who]
        self.attempt(one, lambda: one.balance(accesses, limit))

    @rule(who=GUESTS, node=NODES)
    def move_vcpu(self, who: int, node: int) -> None:
        one = self.subjects[who]
        self.attempt(one, lambda: one.move_vcpu(node))

    @rule(who=GUESTS, way=st.sampled_from(DirtyWay))
    def log(self, who: int, way: DirtyWay) -> None:
        one = self.subjects[who]
        if one.log is not None:
            self.attempt(one, one.stop_log)
        else:
            chosen = DirtyWay.WRITE_PROTECT if one.mmu.name == "shadow" else way
            self.attempt(one, lambda: one.start_log(chosen))

    @rule(who=GUESTS, clear=st.booleans(), every=st.integers(1, 3))
    def harvest(self, who: int, clear: bool, every: int) -> None:
        one = self.subjects[who]
        if one.log is not None:
            self.attempt(one, lambda: one.clear(sorted(one.harvest(clear))[::every]))

    @rule(who=GUESTS, stop=st.booleans())
    def sample(self, who: int, stop: bool) -> None:
        one = self.subjects[who]
        if one.mmu.name != "ept":
            return
        if one.tracker is None:
            self.attempt(one, one.start_tracking)
        elif stop:
            one.tracker.close()
            one.tracker = None
        else:
            self.attempt(one, one.sample)

    @rule(node=NODES, pages=st.integers(1, 5))
    def keep_a_secret(self, node: int, pages: int) -> None:
        def act() -> None:
            region = self.secure[node].secure_alloc(pages, lock="no")
            assert self.pools.node_of(region.hfn) == node
            with region.open() as view:
                self.secrets[region] = node, bytes(view)

        self.attempt(None, act)

    @precondition(lambda self: self.secrets)
    @rule(choice=st.integers(0, 7), value=st.binary(min_size=1, max_size=8) | st.none())
    def use_a_secret(self, choice: int, value: bytes | None) -> None:
        region = list(self.secrets)[choice % len(self.secrets)]
        node, data = self.secrets[region]
        if value is None:
            del self.secrets[region]
            self.attempt(None, lambda: self.secure[node].free(region))
            return
        with region.open(write=True) as view:
            view[: len(value)] = value
        self.secrets[region] = node, value + data[len(value) :]

    @rule(node=NODES, frames=st.integers(1, 600) | st.none())
    def claim(self, node: int, frames: int | None) -> None:
        pool = self.pools.pools[node]

        def act() -> None:  # None: all that there are, so that the node is exhausted for the others
            wanted = pool.frames_of(OwnerKind.FREE) - pool.frames_claimed if frames is None else frames
            if wanted:
                self.claims.append((pool, pool.claim(wanted, MINE)))

        self.attempt(None, act)

    @precondition(lambda self: self.claims)
    @rule(choice=st.integers(0, 7), close=st.booleans())
    def use_a_claim(self, choice: int, close: bool) -> None:
        pool, claim = self.claims[choice % len(self.claims)]
        if close:
            self.claims.remove((pool, claim))
            claim.close()
        elif claim.left:
            self.take(pool, pool.allocate(0, MINE, claim=claim))  # it cannot fail

    @rule(node=NODES, count=st.integers(1, 20))
    def take_from_a_cache(self, node: int, count: int) -> None:
        cache = self.caches[node]

        def act() -> None:
            for _ in range(count):
                self.take(cache, cache.allocate(MINE, Fill.ZERO))

        self.attempt(None, act)

    @precondition(lambda self: self.taken)
    @rule(every=st.integers(1, 3))
    def give_back(self, every: int) -> None:
        for hfn in sorted(self.taken)[::every]:
            _free(self.taken.pop(hfn)[0], hfn)

    def take(self, source: Pool | FrameCache, hfn: int) -> None:
        assert hfn not in self.taken
        self.marks += 1
        self.taken[hfn] = source, self.marks
        self.host.memory.store(hfn << 12, self.marks)


class ReplicatedMachine(HostMachine):
    kinds = (("ept", 2 << 20, True, False), ("shadow", 4 << 10, True, False))


class MixedMachine(HostMachine):
    kinds = (("ept", 4 << 10, True, True), ("shadow", 2 << 20, True, False))


def _free(source: Pool | FrameCache, hfn: int) -> None:
    if isinstance(source, Pool):
        source.free(hfn, 0, MINE)
    else:
        source.free(hfn, MINE)


def _bytes(length: int) -> bytes:
    return bytes(n * 37 & 0xFF for n in range(length))


SETTINGS = settings(max_examples=some(6, 4), stateful_step_count=30, deadline=None)
for machine in (HostMachine, ReplicatedMachine, MixedMachine):
    machine.TestCase.settings = SETTINGS
TestHost = HostMachine.TestCase
TestHostReplicated = ReplicatedMachine.TestCase
TestHostMixed = MixedMachine.TestCase


def test_a_table_that_the_host_cannot_back_leaves_no_guest_frame() -> None:
    host = Host.with_nodes(TOPOLOGY)
    one = Subject(host, "ept", 4 << 10, NumaConfig(TOPOLOGY), 1, False)
    guest = one.mmu.frames.frames_of(OwnerKind.GUEST_TABLE)
    with _nothing_left(host), pytest.raises(OutOfFrames):
        one.map(0)
    assert one.mmu.frames.frames_of(OwnerKind.GUEST_TABLE) == guest
    one.check()
    one.map(0)
    one.write(0, 0, b"x", False)
    one.check()
    one.machine.close()


def test_a_used_page_that_the_host_cannot_back_leaves_no_guest_frame() -> None:
    host = Host.with_nodes(TOPOLOGY)
    one = Subject(host, "ept", 4 << 10, NumaConfig(TOPOLOGY), 1, False)
    one.map(0)
    one.map(1)  # so that no table goes with the page
    one.unmap(0)
    with _nothing_left(host), pytest.raises(OutOfFrames):
        one.map(2)
    one.check()
    assert one.mmu.frames.frames_of(OwnerKind.GUEST_PAGE) == 1
    one.machine.close()


@pytest.mark.parametrize("check", [False, True])
def test_a_write_seen_on_another_node_is_logged_while_flushes_are_checked(check: bool) -> None:
    host = Host.with_nodes(TOPOLOGY)
    one = Subject(host, "ept", 4 << 10, NumaConfig(TOPOLOGY, replicate=True), 1, check)
    copies = one.mmu.memory_map.memory
    assert isinstance(copies, ReplicatedTables)
    one.map(0)
    for node in (1, 2, 0):
        one.move_vcpu(node)
        root = int(one.mmu.context[Context.EPTP]) & EPTP.mask("addr")
        assert root == copies.copy_on(node, one.mmu.memory_map.root)
        one.start_log(DirtyWay.DIRTY_BITS)
        one.write(0, node, b"x", False)
        assert one.pages[0] >> 12 in one.harvest(True)
        one.stop_log()
    one.check()
    one.machine.close()


def _nothing_left(host: Host) -> ExitStack:
    """Claim every frame that is free until the block ends."""
    stack = ExitStack()
    for pool in pools_of(host).pools:
        stack.enter_context(pool.claim(pool.frames_of(OwnerKind.FREE), MINE))
    return stack
