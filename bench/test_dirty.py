"""Dirty logs of a 16 GiB guest with 1 % of its pages dirty: a harvest that clears, against scanning a bitmap of it."""

import statistics
import time

import numpy as np
import pytest
from test_ranges import SIZE as GIBIBYTE

from quire.machine import GuestConfig, Machine
from quire.observe import AccessTracker, DirtyLog, DirtyWay
from quire.paging import Rights

MEMORY = 16 * GIBIBYTE
ROUNDS = 7
MOST = 20  # times the scan


class NoCpu:
    """A Cpu that never runs."""

    def __init__(self, machine: Machine) -> None:
        self.registers = self

    def read_many(self, names: tuple[str, ...]) -> list[int]:
        return [2 if name == "rflags" else 0 for name in names]

    def forget(self, gva: int | None) -> None: ...

    def close(self) -> None: ...


def scan(bitmap: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(bitmap.view(np.uint8), bitorder="little"))


@pytest.mark.parametrize("way", list(DirtyWay))
def test_a_harvest_costs_few_scans_of_its_bitmap(way: DirtyWay) -> None:
    machine = Machine(GuestConfig(mmu="ept", memory=MEMORY, kind="machine"), NoCpu)  # type: ignore[arg-type]
    mmu = machine.vcpu.mmu
    start = time.perf_counter()
    mmu.memory_map.map_range(0, 0, MEMORY, Rights(7))
    mapped = time.perf_counter() - start
    start = time.perf_counter()
    log = DirtyLog(machine, way)
    started = time.perf_counter() - start
    frames = np.random.default_rng(1).choice(MEMORY >> 12, (MEMORY >> 12) // 100, replace=False)
    harvests, scans = [], []
    for _ in range(ROUNDS):
        for frame in frames.tolist():
            mmu.reach(frame << 12, write=True)
        start = time.perf_counter()
        found = log.harvest()
        harvests.append(time.perf_counter() - start)
        start = time.perf_counter()
        listed = scan(found.bitmap)
        scans.append(time.perf_counter() - start)
        assert listed.tolist() == sorted(frames.tolist()) == found.frames().tolist()
        assert not len(log.harvest())
    start = time.perf_counter()
    log.close()
    stopped = time.perf_counter() - start
    harvest, one = statistics.median(harvests), statistics.median(scans)
    print(
        f"\n{way}: map {mapped * 1e3:.0f} ms, start {started * 1e3:.0f} ms, harvest {harvest * 1e3:.2f} ms, "
        f"scan {one * 1e3:.2f} ms: {harvest / one:.1f} times; stop {stopped * 1e3:.0f} ms"
    )
    mmu.memory_map.unmap_range(0, MEMORY)
    machine.close()
    assert harvest <= MOST * one


def test_a_sample_of_accesses() -> None:
    machine = Machine(GuestConfig(mmu="ept", memory=MEMORY, kind="machine"), NoCpu)  # type: ignore[arg-type]
    mmu = machine.vcpu.mmu
    mmu.memory_map.map_range(0, 0, MEMORY, Rights(7))
    frames = np.sort(np.random.default_rng(1).choice(MEMORY >> 12, (MEMORY >> 12) // 100, replace=False))
    accessed = np.uint64(mmu.memory_map.form.accessed)
    places = mmu.memory_map.leaves(0, MEMORY).places[frames] >> np.uint64(3)
    took = []
    with AccessTracker(machine) as tracker:
        for n in range(ROUNDS):
            machine.host.memory.words[places] |= accessed
            start = time.perf_counter()
            found = tracker.sample(n)
            took.append(time.perf_counter() - start)
            assert found.tolist() == frames.tolist()
    print(f"\nsample of 16 GiB, 1 % accessed: {statistics.median(took) * 1e3:.0f} ms")
    mmu.memory_map.unmap_range(0, MEMORY)
    machine.close()
