"""The TLB kernels and their slow twin agree on every look-up of random traces with mixed sizes and spaces."""

import random

import numpy as np
import pytest

from quire.arch import SKYLAKE_X
from quire.tlb import AddressSpace, Operation, Tlb
from quire.tlb._kernels import fill, lookup
from quire.tlb.reference import ReferenceTlb

pytestmark = pytest.mark.jitless

SHIFTS = (12, 21, 30)


class Twins:
    """Both TLBs, driven alike."""

    def __init__(self) -> None:
        self.tlb = Tlb(SKYLAKE_X)
        self.reference = ReferenceTlb(SKYLAKE_X)

    def enter(self, space: AddressSpace) -> None:
        self.tlb.enter(space)
        self.reference.space = self.tlb.spaces.number(space)
        self.reference.global_space = self.tlb.spaces.number(AddressSpace(space.vpid, None, space.ep4ta))

    def access(self, gva: int, fetch: bool, size: int, is_global: bool) -> int | None:
        """Look up in both, fill on a miss, return the level that hit."""
        tlb = self.tlb
        index = int(lookup(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), fetch))
        level = None if index < 0 else 2 if index >> 32 else 1
        expected = self.reference.lookup(gva, fetch)
        assert level == (None if expected is None else expected[0])
        if expected is not None:
            value = int(tlb.entries[2 * tlb.capacity + (index & 0xFFFFFFFF)])
            assert value == expected[1]
            return level
        translation = gva >> SHIFTS[size] << SHIFTS[size] | 7
        fill(
            *(tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), fetch, np.uint64(SHIFTS[size])),
            *(is_global, np.uint64(translation)),
        )
        self.reference.fill(gva, fetch, size, is_global, translation)
        return None

    def invalidate(self, operation: Operation, **operand: int) -> None:
        rule = operation.value
        marks = self.tlb.spaces.matching(
            vpid=operand.get("vpid", 0) if rule.vpid else None,
            pcid=operand.get("pcid", 0) if rule.pcid else None,
            ep4ta=operand.get("ep4ta") if rule.ep4ta else None,
            global_pages=rule.global_pages,
            vpid_zero=not rule.spare_vpid_0,
            linear=rule.linear,
        )
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


@pytest.mark.parametrize(("seed", "pages"), [(0, 40), (1, 120), (2, 3000), (3, 90)])
def test_random_traces(seed: int, pages: int) -> None:
    rng = random.Random(seed)
    twins = Twins()
    twins.enter(SPACES[0])
    # A page has one size and one kind for good: mixed sizes of one address are the guest's error.
    kind = {page: (rng.choice((0, 0, 0, 0, 1, 2)), rng.random() < 0.05) for page in range(pages)}
    levels = {None: 0, 1: 0, 2: 0}
    for _ in range(4000):
        page = min(int(rng.expovariate(4 / pages)), pages - 1)
        size, is_global = kind[page]
        gva = page << 30 | page << 21 | page << 12 | rng.randrange(4096)
        levels[twins.access(gva, rng.random() < 0.4, size, is_global)] += 1
        if rng.random() < 0.005:
            twins.enter(rng.choice(SPACES))
        if rng.random() < 0.005:
            operation = rng.choice(list(Operation))
            twins.invalidate(operation, vpid=rng.choice((1, 2)), pcid=rng.choice((0, 3)), ep4ta=5, gva=gva)
    assert levels[1] and levels[None]


def test_same_page_hits_and_capacity_of_a_set() -> None:
    twins = Twins()
    twins.enter(SPACES[0])
    sets = SKYLAKE_X.tlb("l1d_4k").sets
    ways = SKYLAKE_X.tlb("l1d_4k").ways
    pages = [n * sets << 12 for n in range(ways + 1)]
    assert [twins.access(page, False, 0, False) for page in pages] == [None] * (ways + 1)
    assert twins.access(pages[0], False, 0, False) == 2  # evicted from L1, still in L2
    assert twins.access(pages[0], False, 0, False) == 1
