"""The TLB kernels and their slow twin agree on every look-up of random traces with mixed sizes and spaces."""

import random

import numpy as np
import pytest

from quire.arch import SKYLAKE_X, CpuProfile, Replacement, Side
from quire.tlb import TAG, TRANSLATION, AddressSpace, Kind, Operand, Operation, Tlb, TlbOptions, TlbState
from quire.tlb._kernels_arrays import fill, lookup
from quire.tlb.reference import ReferenceTlb

pytestmark = pytest.mark.jitless

SHIFTS = (12, 21, 30)
SIDES = list(Side)
FRAME = (1 << 52) - (1 << 12)


class Twins:
    """Both TLBs, driven alike."""

    def __init__(self, profile: CpuProfile, options: TlbOptions) -> None:
        self.tlb = Tlb(profile, options)
        self.reference = ReferenceTlb(profile, options, int(self.tlb.state[TlbState.RANDOM]))

    def enter(self, space: AddressSpace) -> None:
        self.tlb.enter(space)
        self.reference.space = self.tlb.spaces.number(space)
        self.reference.global_space = self.tlb.spaces.number(space.shared)

    def access(self, gva: int, side: Side, size: int, is_global: bool) -> int | None:
        """Look up in both, fill on a miss, return the level that hit."""
        tlb, number = self.tlb, SIDES.index(side)
        index = int(lookup(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), number))
        level = None if index < 0 else 1 + (index >> 32)
        expected = self.reference.lookup(gva, side)
        assert level == (None if expected is None else expected[0])
        if expected is not None:
            at = index & 0xFFFFFFFF
            offset = (1 << Kind(TAG.get(int(tlb.entries[at]), "kind")).shift) - 1
            # Pages map to themselves: an entry, be it a piece of a page, gives the address back.
            assert int(tlb.entries[2 * tlb.capacity + at]) & FRAME & ~offset | gva & offset == gva
            return level
        value = gva >> SHIFTS[size] << SHIFTS[size] | TRANSLATION.encode(walk_size=size) | 7
        fill(
            *(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), number, np.uint64(size)),
            *(is_global, np.uint64(value), True),
        )
        self.reference.fill(gva, side, size, is_global, value)
        if tlb.state[TlbState.FULL]:
            tlb.grow()
        return None

    def invalidate(self, operation: Operation, **operand: int) -> None:
        rule = operation.value
        marks = self.tlb.spaces.marks(operation, Operand(**operand))
        self.tlb.invalidate(operation, **operand)
        self.reference.invalidate(
            {n for n, mark in enumerate(marks) if mark}, operand.get("gva", 0) if rule.page else None
        )


SPACES = [
    AddressSpace(1, 0, 5),
    AddressSpace(1, 3, 5),
    AddressSpace(2, 0, 5),
    AddressSpace(1, 0, 6),
    AddressSpace(1, 0, None),
]


def drive(
    profile: CpuProfile, options: TlbOptions, seed: int, pages: int, steps: int
) -> dict[int | None, int]:
    """Drive both twins through a random trace; return how often each level hit."""
    rng = random.Random(seed)
    twins = Twins(profile, options)
    twins.enter(SPACES[0])
    # A page has one size and one kind for good: mixed sizes of one address are the guest's error.
    kind = {page: (rng.choice((0, 0, 0, 0, 1, 2)), rng.random() < 0.05) for page in range(pages)}
    levels: dict[int | None, int] = {}
    for _ in range(steps):
        page = min(int(rng.expovariate(4 / pages)), pages - 1)
        size, is_global = kind[page]
        gva = page << 30 | page << 21 | page << 12 | rng.randrange(4096)
        gva ^= (rng.randrange(4) << 12) * (size > 0)  # another piece of a large page
        level = twins.access(gva, rng.choice(SIDES), size, is_global)
        levels[level] = levels.get(level, 0) + 1
        if rng.random() < 0.005:
            twins.enter(rng.choice(SPACES))
        if rng.random() < 0.02:
            operation = rng.choice(list(Operation))
            twins.invalidate(operation, vpid=rng.choice((1, 2)), pcid=rng.choice((0, 3)), ep4ta=5, gva=gva)
    assert not twins.tlb.state[TlbState.CONFLICTS]
    return levels


@pytest.mark.parametrize("replacement", Replacement)
@pytest.mark.parametrize(("seed", "pages"), [(0, 40), (1, 120), (2, 3000)])
def test_random_traces(replacement: Replacement, seed: int, pages: int) -> None:
    levels = drive(SKYLAKE_X, TlbOptions(replacement=replacement, seed=seed), seed, pages, 2500)
    assert levels[1] and levels[2] and levels[None]


@pytest.mark.parametrize("largest", [1 << 12, 1 << 21])
def test_large_pages_in_pieces(largest: int) -> None:
    assert drive(SKYLAKE_X, TlbOptions(largest_page=largest), 7, 60, 2500)[1]


def test_same_page_hits_and_capacity_of_a_set() -> None:
    twins = Twins(SKYLAKE_X, TlbOptions())
    twins.enter(SPACES[0])
    geometry = SKYLAKE_X.tlb("L1D 4K")
    pages = [n * geometry.sets << 12 for n in range(geometry.ways + 1)]
    assert [twins.access(page, Side.LOAD, 0, False) for page in pages] == [None] * (geometry.ways + 1)
    assert twins.access(pages[0], Side.LOAD, 0, False) == 2  # evicted from L1, still in L2
    assert twins.access(pages[0], Side.LOAD, 0, False) == 1


@pytest.mark.parametrize(
    ("first", "then", "options", "conflicts"),
    [
        (1, 0, TlbOptions(), 1),  # a page of 2 MiB was split without INVLPG
        (0, 1, TlbOptions(), 1),  # pages of 4 KiB were joined
        (0, 0, TlbOptions(), 0),
        (1, 0, TlbOptions(largest_page=1 << 12), 0),  # large pages are held in pieces: the sizes are one
    ],
)
def test_two_sizes_of_one_address(first: int, then: int, options: TlbOptions, conflicts: int) -> None:
    tlb = Tlb(SKYLAKE_X, options)
    tlb.enter(SPACES[0])
    for size in (first, then):
        fill(
            *(tlb.entries, tlb.state, tlb.shapes, np.uint64(0x40_0000), 1, np.uint64(size)),
            *(False, np.uint64(0x40_0007), False),
        )
    assert tlb.conflicts == conflicts
    assert int(tlb.state[TlbState.CONFLICT_GVA]) == (0x40_0000 if conflicts else 0)
