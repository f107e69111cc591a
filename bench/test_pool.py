"""Frames allocated and freed a second: compiled batches, and one at a time from Python, with and without memory behind.

Targets: 2 M pairs a second in compiled code, 0.3 M from Python with poison on, which writes each frame twice and reads
it once. The peer is `bytearray(4096)` made and dropped: Python's own allocator of a zeroed page.
Run: ``python -m pytest bench/test_pool.py -q``.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from measure import table

from quire.memory import FRAME_SIZE, FrameCache, HostMemory, Owner, OwnerKind, Pool

_OWNER = Owner(OwnerKind.GUEST_PAGE, "bench")


def _one_by_one(pool: Pool | FrameCache, count: int) -> float:
    allocate, free = pool.allocate, pool.free
    begin = time.perf_counter()
    if isinstance(pool, Pool):
        for _ in range(count):
            free(allocate(0, _OWNER), 0, _OWNER)
    else:
        for _ in range(count):
            free(allocate(_OWNER), _OWNER)
    return time.perf_counter() - begin


def _at_random(pool: Pool, count: int) -> float:
    begin = time.perf_counter()
    frames = [pool.allocate(0, _OWNER) for _ in range(count)]
    taken = time.perf_counter() - begin
    np.random.default_rng(1).shuffle(frames)
    begin = time.perf_counter()
    for hfn in frames:
        pool.free(hfn, 0, _OWNER)
    return taken + time.perf_counter() - begin


def _batches(pool: Pool, count: int) -> float:
    begin = time.perf_counter()
    frames = pool.allocate_many(count, 0, _OWNER)
    taken = time.perf_counter() - begin
    np.random.default_rng(1).shuffle(frames)
    begin = time.perf_counter()
    pool.free_many(frames, 0, _OWNER)
    return taken + time.perf_counter() - begin


def _pages(count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        bytearray(FRAME_SIZE)
    return time.perf_counter() - begin


def test_pairs(small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    singles, many = (2_000, 20_000) if small else (50_000, 1_000_000)
    scattered = min(singles, 16_384)
    host = HostMemory(1 << 27)
    poisoned, plain = Pool(0, 1 << 14, host), Pool(1 << 14, 1 << 14, host, poison=False)
    numbers = Pool(0, 1 << 20)
    cache = FrameCache(poisoned, "vcpu0")
    subjects: dict[str, tuple[int, Callable[[], float]]] = {
        "bytearray(4096)": (singles, lambda: _pages(singles)),
        "compiled batch, freed in random order": (many, lambda: _batches(numbers, many)),
        "Python, poison": (singles, lambda: _one_by_one(poisoned, singles)),
        "Python, poison, freed in random order": (
            scattered - 512,
            lambda: _at_random(poisoned, scattered - 512),
        ),
        "Python, poison off": (singles, lambda: _one_by_one(plain, singles)),
        "Python, no memory": (singles, lambda: _one_by_one(numbers, singles)),
        "a cache, poison": (singles, lambda: _one_by_one(cache, singles)),
    }
    rates: dict[str, float] = {}

    def measure() -> None:
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for turn in range(rounds + 1):  # the first warms up
            for name, (count, subject) in subjects.items():
                took = subject()
                if turn:
                    times[name].append(took / count)
        rates.update({name: 1e-6 / statistics.median(taken) for name, taken in times.items()})

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["million_pairs_a_second"] = rates
    shown = table("Frames allocated and freed, million pairs a second", "way", "pairs", "/ bytearray")
    for name, rate in rates.items():
        shown.add_row(name, f"{rate:.2f}", f"{rate / rates['bytearray(4096)']:.2f}")
