"""Miss counts are exact: random traces through every shipped profile and policy, against the TLB in plain Python."""

import random

import numpy as np
import numpy.typing as npt
import pytest

from quire.arch import Replacement, Side, profile_by_name, profile_names
from quire.tlb import AddressSpace, Operation, Tlb, TlbOptions, TlbState
from quire.tlb._kernels_arrays import fill, lookup
from quire.tlb.reference import ReferenceTlb
from quire.trace import RECORD, replay

SIDES = list(Side)
TRACES, RECORDS = 20, 120
SHIFTS = (12, 21, 30)
SPACES = (AddressSpace(1, 0, None), AddressSpace(1, 5, 0x3000))


Accesses = list[tuple[int, int]]


def trace(rng: random.Random) -> Accesses:
    """Return accesses, each a side's number and an address: often near the last, and to too many pages for few sets."""
    stride = rng.choice((1, 16, 128, 256))
    pages, at, accesses = rng.randrange(4, 48), 0, []
    for _ in range(RECORDS):
        draw = rng.random()
        at = int(draw * 100) % pages if draw < 0.4 else (at + (draw > 0.7) - (draw > 0.9) * 2) % pages
        accesses.append((rng.choice((0, 1, 1, 2)), 0x7F00_0000_0000 + (at * stride << 12) + int(draw * 4096)))
    return accesses


def records(accesses: Accesses) -> npt.NDArray[np.uint64]:
    return np.array([gva | side << RECORD.shift("side") for side, gva in accesses], np.uint64)


class Model:
    """The TLB in plain Python, and what missed in it."""

    def __init__(self, tlb: Tlb) -> None:
        self.tlb = tlb
        self.twin = ReferenceTlb(tlb.profile, tlb.options, int(tlb.state[TlbState.RANDOM]))
        self.missed = {side: [0] * max(self.twin.depth, 1) for side in SIDES}

    def enter(self, space: AddressSpace) -> None:
        self.twin.space = self.tlb.spaces.number(space)
        self.twin.global_space = self.tlb.spaces.number(space.shared)

    def access(self, gva: int, side: Side, size: int = 0) -> bool:
        """Look up, fill on a miss; return whether it hit."""
        found = self.twin.lookup(gva, side)
        for level in range(len(self.missed[side]) if found is None else found[0] - 1):
            self.missed[side][level] += 1
        if found is None:
            self.twin.fill(gva, side, size, False, gva >> SHIFTS[size] << SHIFTS[size])
        return found is not None

    def misses(self) -> dict[str, int]:
        counts = {}
        last = len(self.missed[Side.LOAD]) - 1
        for level in range(max(2, last + 1)):
            fetch, load, store = (self.missed[side][min(level, last)] for side in SIDES)
            counts |= {f"l{level + 1}d_misses": load + store, f"l{level + 1}i_misses": fetch}
        return counts

    def contents(self) -> set[tuple[str, int, int, int, int]]:
        """Return structure, space, size and page of every entry, and its value."""
        return {
            (geometry.name, *key, value)
            for geometry, array in self.twin.arrays
            for held in (
                array.unbounded or {},
                *(dict(zip(one.keys, one.values, strict=True)) for one in array.sets),
            )
            for key, value in held.items()
            if key is not None
        }


def contents(tlb: Tlb) -> set[tuple[str, int, int, int, int]]:
    return {
        (
            one.structure,
            tlb.spaces.number(one.space),
            int(one.kind),
            (one.address & (1 << 57) - 1) >> one.kind.shift,
            one.hpa,
        )
        for one in tlb.valid()
        if one.kind.is_page
    }


@pytest.mark.parametrize("replacement", Replacement)
@pytest.mark.parametrize("name", profile_names())
def test_replayed_traces(name: str, replacement: Replacement) -> None:
    hits = 0
    for seed in range(TRACES):
        rng = random.Random(f"{name} {replacement} {seed}")
        tlb = Tlb(profile_by_name(name), TlbOptions(replacement=replacement, seed=seed))
        model = Model(tlb)
        for space in SPACES[: 1 + seed % 2]:
            tlb.enter(space)
            model.enter(space)
            accesses = trace(rng)
            replay(tlb, records(accesses))
            hits += sum(model.access(gva, SIDES[side]) for side, gva in accesses)
        assert tlb.misses() == model.misses(), seed
        assert contents(tlb) == model.contents(), seed
        assert sum(tlb.lookups().values()) == RECORDS * (1 + seed % 2)
    assert bool(hits) == (name != "none")


@pytest.mark.parametrize("name", profile_names())
def test_large_pages(name: str) -> None:
    """One look-up after another, to pages of every size."""
    for replacement in Replacement:
        rng = random.Random(f"{name} {replacement}")
        tlb = Tlb(profile_by_name(name), TlbOptions(replacement=replacement))
        model = Model(tlb)
        tlb.enter(SPACES[1])
        model.enter(SPACES[1])
        for side, gva in trace(rng) + trace(rng):
            # Pages are a GiB apart and keep their size: an address has one page.
            page, offset = gva >> 12 & 0xFFFF, gva & 0xFFF
            size, gva = page % 3, page << 30 | page << 21 | page << 12 | offset
            hit = model.access(gva, SIDES[side], size)
            where = tlb.entries, tlb.state, tlb.shapes, np.uint64(gva), side
            assert (lookup(*where) >= 0) == hit
            if not hit:
                value = np.uint64(gva >> SHIFTS[size] << SHIFTS[size])
                fill(*where, np.uint64(size), False, value, True)
                if tlb.state[TlbState.FULL]:
                    tlb.grow()
        assert tlb.misses() == model.misses()
        assert contents(tlb) == model.contents()
        assert not tlb.state[TlbState.CONFLICTS]


def test_a_page_that_went_in_between_is_looked_up_again() -> None:
    """The replay's short cut for the page looked up last, where it must not be taken."""
    tlb = Tlb(profile_by_name("skylake-x"))
    tlb.enter(SPACES[0])
    pages = [page << 12 for page in range(0, 5 * 16, 16)]  # one set of four ways, for loads and stores
    replay(tlb, records([(1, pages[0]), *((2, page) for page in pages[1:]), (1, pages[0])]))
    assert tlb.misses()["l1d_misses"] == 6
    replay(tlb, records([(1, pages[0])]))
    assert tlb.misses()["l1d_misses"] == 6
    tlb.invalidate(Operation.INVVPID_CONTEXT, vpid=1)
    replay(tlb, records([(1, pages[0])]))
    assert tlb.misses()["l1d_misses"] == 7
    tlb.enter(SPACES[1])
    replay(tlb, records([(1, pages[0])]))
    assert tlb.misses() == {"l1d_misses": 8, "l1i_misses": 0, "l2d_misses": 7, "l2i_misses": 0}
