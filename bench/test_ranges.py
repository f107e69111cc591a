"""Ranges of EPT entries: 1 GiB of 4 KiB pages mapped and unmapped, in entries a second, against page by page."""

import statistics
import time

import numpy as np

from quire.mmu.backed import make_ept
from quire.mmu.host import Host
from quire.paging import Rights

SIZE, FEW = 1 << 30, 16 << 20
ROUNDS = 7
LEAST = 5_000_000  # entries a second


def test_map_and_unmap_a_gibibyte() -> None:
    host = Host.for_guest(64 << 20, 0x1000)
    try:
        tables = make_ept(host)
        targets = np.arange(SIZE >> 12, dtype=np.uint64)[::-1] << np.uint64(12)
        took: dict[str, list[float]] = {"map": [], "unmap": [], "map each": [], "unmap each": []}
        for _ in range(ROUNDS):
            start = time.perf_counter()
            tables.map_range(0, targets, SIZE, Rights.READ)
            mapped = time.perf_counter()
            tables.unmap_range(0, SIZE)
            took["map"].append(mapped - start)
            took["unmap"].append(time.perf_counter() - mapped)
            start = time.perf_counter()
            for address in range(0, FEW, 0x1000):
                tables.map(address, address, 0x1000, Rights.READ)
            mapped = time.perf_counter()
            for address in range(0, FEW, 0x1000):
                tables.unmap(address)
            took["map each"].append(mapped - start)
            took["unmap each"].append(time.perf_counter() - mapped)
        rates = {
            name: (FEW if "each" in name else SIZE) / 4096 / statistics.median(times)
            for name, times in took.items()
        }
        print({name: f"{rate:,.0f} entries/s" for name, rate in rates.items()})
        assert min(rates["map"], rates["unmap"]) >= LEAST
        tables.close()
    finally:
        host.close()
