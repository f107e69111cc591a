"""Scrubbing secure memory, beside `memset` of libc on the same warm mapping, in the same run.

Target: at least 0.7 of memset's bandwidth for 1 MiB and 256 MiB.
Run: ``python -m pytest bench/test_secure.py -q`` (256 MiB of memory).
"""

import ctypes
import statistics
import time
from collections.abc import Callable

import pytest
from measure import table

from quire.memory import FRAME_SHIFT, HostMemory
from quire.memory.secure.protection import scrub

_MIB = 1 << 20


@pytest.mark.parametrize("mib", [1, 256])
def test_scrub(mib: int, small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    size = (1 if small else mib) * _MIB
    repeats = max(1, 256 * _MIB // size) if not small else 4
    rates: dict[str, float] = {}
    with HostMemory(size) as host:
        subjects: dict[str, Callable[[], object]] = {
            "memset": lambda: ctypes.memset(host.address, 0, size),
            "scrub": lambda: scrub(host, 0, size >> FRAME_SHIFT),
        }
        host.fill(0, size >> FRAME_SHIFT, 0x5A)

        def measure() -> None:
            times: dict[str, list[float]] = {name: [] for name in subjects}
            for turn in range(2 * rounds + 1):  # the first warms up
                for name, subject in subjects.items():
                    begin = time.perf_counter()
                    for _ in range(repeats):
                        subject()
                    if turn:
                        times[name].append(time.perf_counter() - begin)
            for name, taken in times.items():
                rates[name] = size * repeats / statistics.median(taken) / 1e9

        benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["gigabytes_a_second"] = rates
    shown = table(f"Overwriting {size >> 20} MiB, GB a second", "way", "rate", "/ memset")
    for name, rate in rates.items():
        shown.add_row(name, f"{rate:.2f}", f"{rate / rates['memset']:.2f}")
