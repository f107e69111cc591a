"""Another simulator counts the same: pycachesim, a cache simulator in C, with lines of a page.

Only as a black box, and only where it is installed. A TLB that it can express: LRU, all levels filled on a miss.
"""

import random
from dataclasses import replace

import numpy as np
import pytest

from quire.arch import CpuProfile, Side, TlbGeometry, profile_by_name
from quire.tlb import AddressSpace, Tlb
from quire.trace import records, replay

cachesim = pytest.importorskip("cachesim", reason="pycachesim is not installed: pip install -e '.[peers]'")

#: Sets and ways of each level, the nearest first.
GEOMETRIES = [
    ((16, 4), (128, 12)),
    ((8, 8), (64, 4)),
    ((1, 16), (256, 8)),
    ((4, 2), (4, 2)),
    ((16, 4),),
    ((8, 4), (32, 4), (128, 8)),
]


def profile(levels: tuple[tuple[int, int], ...]) -> CpuProfile:
    """Return a processor with these TLBs, for loads and pages of 4 KiB."""
    tlbs = tuple(
        TlbGeometry(f"L{level}", level, (Side.LOAD,), (12,), sets * ways, ways)
        for level, (sets, ways) in enumerate(levels, 1)
    )
    return replace(profile_by_name("none"), name="chain", tlbs=tlbs)


def trace(rng: random.Random, pages: int) -> list[int]:
    """Return addresses: runs through pages, returns to a few, and any."""
    addresses: list[int] = []
    while len(addresses) < 4000:
        page = rng.choice((rng.randrange(pages), rng.randrange(8)))
        step = rng.choice((0, 1, 16, 128))
        addresses += [(page + step * n << 12) + rng.randrange(4096) for n in range(rng.randrange(1, 24))]
    return addresses


@pytest.mark.parametrize("pages", [60, 400, 20_000])
@pytest.mark.parametrize("levels", GEOMETRIES, ids=str)
def test_misses_of_every_level(levels: tuple[tuple[int, int], ...], pages: int) -> None:
    addresses = trace(random.Random(f"{levels} {pages}"), pages)
    tlb = Tlb(profile(levels))
    tlb.enter(AddressSpace(1, 0, None))
    replay(tlb, records(np.array(addresses, np.uint64), Side.LOAD))
    caches = []
    for level, (sets, ways) in reversed(list(enumerate(levels, 1))):
        below = caches[-1] if caches else None
        caches.append(cachesim.Cache(f"L{level}", sets, ways, 4096, "LRU", load_from=below, store_to=below))
    memory = cachesim.MainMemory()
    memory.load_to(caches[0])
    memory.store_from(caches[0])
    simulator = cachesim.CacheSimulator(caches[-1], memory)
    simulator.load(addresses)
    misses = [cache.stats()["MISS_count"] for cache in reversed(caches)]
    counted = tlb.misses()
    assert misses == [counted[f"l{level}d_misses"] for level in range(1, len(levels) + 1)]
    assert 0 < misses[0] < len(addresses)
