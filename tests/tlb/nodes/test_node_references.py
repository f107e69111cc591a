"""References by node: the kernel and its slow twin agree on every walk, with walk caches and without."""

import random
from dataclasses import replace

import numpy as np
import pytest

from quire.arch import SKYLAKE_X, Access, CpuProfile
from quire.errors import MisuseError
from quire.memory import FRAME_SHIFT, Fill, HostMemory, Owner, OwnerKind
from quire.memory.numa import NodePools, Topology
from quire.paging import (
    EPT_FORMAT,
    GUEST_FORMAT,
    MEMO_WORDS,
    RESULT_WORDS,
    Context,
    Rights,
    Status,
    Tables,
    new_context,
    reference_walk,
)
from quire.paging.context import Dimension
from quire.tlb import AddressSpace, Tlb, TlbOptions, TlbState
from quire.tlb.nodes import NodeCount, NodeReferences
from quire.tlb.nodes._kernels_arrays import reaches_memory, walk_noting_nodes
from quire.tlb.nodes.line_cache import WAYS, LineCache, line_cache
from quire.tlb.nodes.reference import count_by_node
from quire.tlb.walker import PATH_WORDS, Walker
from quire.tlb.walker.reference import GuestPhysical, ReferenceWalker

pytestmark = pytest.mark.jitless

NODES, SIZE = 5, 64 << 20
EPT_OWNER, PAGE_OWNER = Owner(OwnerKind.EPT_TABLE, "test"), Owner(OwnerKind.GUEST_PAGE, "test")
ALL = Rights.READ | Rights.WRITE | Rights.EXECUTE
LARGE = 2 << 20


class HostFrames:
    """Tables in host memory, each on a random node."""

    def __init__(self, memory: HostMemory, pools: NodePools, rng: random.Random) -> None:
        self.load, self.store, self._pools, self._rng = memory.load, memory.store, pools, rng

    def allocate_table(self) -> int:
        node = self._rng.randrange(NODES)
        return self._pools.allocate(0, EPT_OWNER, Fill.ZERO, (node,)) << FRAME_SHIFT

    def free_table(self, address: int) -> None:
        raise AssertionError("nothing is freed here")


class GuestFrames:
    """Tables of the guest, in guest-physical memory that `back` gives, by way of `at`."""

    def __init__(self, world: "World") -> None:
        self.world, self.next = world, 0

    def load(self, address: int) -> int:
        return self.world.memory.load(self.world.hpa(address))

    def store(self, address: int, entry: int) -> None:
        self.world.memory.store(self.world.hpa(address), entry)

    def allocate_table(self) -> int:
        self.next += 1
        gpa = 0x1_0000_0000 + (self.next << 12)
        self.world.back(gpa)
        return gpa

    def free_table(self, address: int) -> None:
        raise AssertionError("nothing is freed here")


class World:
    """A guest with 4 KiB and 2 MiB pages, with or without EPT, whose frames lie on random nodes."""

    def __init__(self, seed: int, two: bool, profile: CpuProfile, host_large: bool) -> None:
        self.rng = random.Random(seed)
        topology = Topology.declared([SIZE] * NODES)
        self.memory = HostMemory(topology.size)
        self.pools = NodePools(topology, self.memory)
        self.context = new_context(SKYLAKE_X, self.memory.size)
        self.ept = Tables(HostFrames(self.memory, self.pools, self.rng), EPT_FORMAT) if two else None
        self.host_large = host_large
        self.pages: list[int] = []
        frames = HostFrames(self.memory, self.pools, self.rng) if self.ept is None else GuestFrames(self)
        guest = Tables(frames, GUEST_FORMAT)
        for _ in range(40):
            large = self.rng.random() < 0.1
            gva = self.rng.randrange(3) << 39 | self.rng.randrange(3) << 30 | self.rng.randrange(4) << 21
            gva |= 0 if large else self.rng.randrange(8) << 12
            try:
                size = LARGE if large else 4096
                guest.map(gva, self.page(size), size, ALL)
            except MisuseError:
                continue  # something is mapped there
            self.pages.append(gva)
        self.context[Context.CR3] = guest.root
        if self.ept is not None:
            self.context[Context.EPTP] = self.ept.root | 0x1E  # write-back, four levels
        self.context[Context.UPDATE] = 0
        self.tlb = Tlb(profile, TlbOptions())
        self.twin = ReferenceWalker(profile, TlbOptions(), int(self.tlb.state[TlbState.RANDOM]))
        space = AddressSpace(1, 0, 7 if two else None)
        self.tlb.enter(space)
        self.twin.space = self.tlb.spaces.number(space)
        self.twin.ept_space = int(self.tlb.state[TlbState.EPT_SPACE])
        self.counts = NodeReferences(self.pools.node_table, NODES, 0)
        self.memo = np.zeros(MEMO_WORDS, np.uint64)
        self.path = np.zeros(PATH_WORDS, np.uint64)  # of all walks, as a Cpu has it

    def page(self, size: int) -> int:
        """Return guest-physical memory for a page; without EPT host memory."""
        number = len(self.pages)
        if self.ept is None:
            order = 9 if size == LARGE else 0
            return self.pools.allocate(order, PAGE_OWNER, Fill.ZERO, self.nodes()) << FRAME_SHIFT
        gpa = 0x2_0000_0000 + number * LARGE
        self.back(gpa)
        return gpa

    def nodes(self) -> list[int]:
        order = list(range(NODES))
        self.rng.shuffle(order)
        return order

    def back(self, gpa: int) -> None:
        assert self.ept is not None
        large = self.host_large and gpa % LARGE == 0 and self.rng.random() < 0.2
        order = 9 if large else 0
        hfn = self.pools.allocate(order, PAGE_OWNER, Fill.ZERO, self.nodes())
        self.ept.map(gpa, hfn << FRAME_SHIFT, LARGE if order else 4096, ALL)

    def hpa(self, gpa: int) -> int:
        assert self.ept is not None
        target = self.ept.target(gpa)
        assert target is not None
        return target

    def walk(self, gva: int, caches: bool) -> None:
        """Walk by the kernel and by the twin, and compare what went where."""
        self.counts.counts[:] = 0
        record = reference_walk(self.memory.words, self.context, gva, Access.READ)
        result, path = np.zeros(RESULT_WORDS, np.uint64), self.path
        self.tlb.state[TlbState.CLOCK] += np.uint64(1)
        self.twin.clock += 1
        status = walk_noting_nodes(
            Walker(
                memory=self.memory.words,
                context=self.context,
                memo=self.memo,
                result=result,
                entries=self.tlb.entries,
                state=self.tlb.state,
                shapes=self.tlb.shapes,
                path=path,
            ),
            np.uint64(gva),
            np.uint64(Access.READ),
            caches,
            self.counts.counter,
        )
        assert status == record.status
        read = made = None
        if caches and status in (Status.OK, Status.PAGE_FAULT):
            tables = {
                ref.level: GuestPhysical(
                    ref.gpa & -4096 if ref.gpa is not None else ref.hpa & -4096, self.shift(ref.gpa)
                )
                for ref in record.references
                if ref.dimension is Dimension.GUEST
            }
            page = GuestPhysical(record.gpa, record.host_shift) if self.ept and status == Status.OK else None
            self.twin.account(gva, tables, page, 4)
            read, made = self.twin.read, self.twin.made
        expected = count_by_node(record, lambda hpa: self.pools.node_of(hpa >> FRAME_SHIFT), read, made)
        found = {
            (node, kind): int(self.counts.counts[node, 0, kind])
            for node in range(NODES)
            for kind in NodeCount
            if self.counts.counts[node, 0, kind]
        }
        assert found == dict(expected)
        assert np.array_equal(self.counts.counts[:, 0], self.counts.counts[:, 1]), "there is no cache"

    def shift(self, gpa: int | None) -> int:
        if self.ept is None or gpa is None:
            return 12
        mapping = self.ept.lookup(gpa)
        assert mapping is not None
        return mapping.size.bit_length() - 1


@pytest.mark.parametrize("host_large", [False, True])
@pytest.mark.parametrize("caches", [False, True])
def test_twins_in_two_dimensions(caches: bool, host_large: bool) -> None:
    for seed in range(6):
        world = World(seed, True, SKYLAKE_X, host_large)
        for _ in range(60):
            gva = world.rng.choice(world.pages) + (world.rng.randrange(6) << 12) * (world.rng.random() < 0.3)
            world.walk(gva, caches)


@pytest.mark.parametrize("caches", [False, True])
def test_twins_in_one_dimension(caches: bool) -> None:
    for seed in range(6):
        world = World(seed, False, SKYLAKE_X, False)
        for _ in range(60):
            world.walk(world.rng.choice(world.pages) + (world.rng.randrange(6) << 12), caches)


def test_without_walk_caches_the_option_says_nothing() -> None:
    bare = replace(SKYLAKE_X, walk_caches=())
    world = World(1, True, bare, False)
    for gva in world.pages:
        world.walk(gva, False)
    total = world.counts.counts[:, 0].sum()
    assert total in (24, 19), "the whole walk is counted"


def test_the_cache_before_memory_is_lru_in_sets() -> None:
    rng = random.Random(3)
    lines = line_cache(4 << 10)
    assert lines[LineCache.SETS] == 4
    sets: list[list[int]] = [[] for _ in range(4)]
    missed = 0
    for _ in range(4000):
        hpa = rng.randrange(200) << 6 | rng.randrange(64)
        line = (hpa >> 6) + 1
        held = sets[line % 4]
        expected = line not in held
        if not expected:
            held.remove(line)
        held.append(line)
        del held[:-WAYS]
        assert bool(reaches_memory(lines, np.uint64(hpa))) == expected
        missed += expected
    assert 0 < missed < 4000
    with pytest.raises(
        MisuseError, match=r"^A cache of 512 bytes has no set: give at least 1024, or 0 for none$"
    ):
        line_cache(512)


def test_references_follow_the_vcpu() -> None:
    counts = NodeReferences(np.array([0, 1], np.uint8), 2, 0)
    counts.counts[1, 0, NodeCount.DATA] = 5
    counts.move(1)
    counts.counts[1, 0, NodeCount.DATA] = 3
    counts.counts[0, 0, NodeCount.GUEST_TABLE] = 2
    assert counts.matrix(NodeCount.DATA).tolist() == [[0, 5], [0, 3]]
    assert (counts.local(NodeCount.DATA), counts.remote(NodeCount.DATA)) == (3, 5)
    assert (counts.local(NodeCount.GUEST_TABLE), counts.remote(NodeCount.GUEST_TABLE)) == (0, 2)
    with pytest.raises(MisuseError, match=r"^There is no node 2: give 0 to 1$"):
        counts.move(2)
