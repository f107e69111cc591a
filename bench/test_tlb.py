"""Lookups a second through the modelled TLBs, beside pycachesim on the same streams, in the same run.

Targets (issue 5): tags alone, recorded programs at least 200 M/s (aim 400), random streams 40 (aim 65); random reads
of 1 GiB with TLBs, walk caches and 4 x 4 walks counted at least 4 M/s (aim 10); `--detail full` with a real profile at
most 1.3 times one flat TLB; at most 64 bytes a TLB entry.
Run: ``python -m pytest bench/test_tlb.py -q``; valgrind records programs, ``pip install -e .[peers]`` brings the peer.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import QUIRE, Timing, interleave, run_timed, table
from recorded import random_pages, record
from workloads import gzip, python_loop, sqlite

from quire.arch import Side, profile_by_name
from quire.study.big_tables import big_tables
from quire.tlb import AddressSpace, Tlb
from quire.trace import records, replay, replay_walks

_SKYLAKE = profile_by_name("skylake-x")
_REAL = ("skylake-x", "sapphire-rapids", "zen4")
_FLAT = str(Path(__file__).parent / "flat.toml")
_PAGE = 4096


def _rate(subjects: dict[str, Callable[[], object]], count: int, rounds: int) -> dict[str, float]:
    """Return millions of records a second by subject: interleaved rounds, the median of each."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds + 1):  # the first compiles and warms
        for name, subject in subjects.items():
            begin = time.perf_counter()
            subject()
            times[name].append(time.perf_counter() - begin)
    return {name: count / statistics.median(all_of[1:]) / 1e6 for name, all_of in times.items()}


def _ours(stream: np.ndarray) -> Callable[[], object]:
    def once() -> None:
        tlb = Tlb(_SKYLAKE)
        tlb.enter(AddressSpace(1, 0, None))
        replay(tlb, stream)

    return once


def _pycachesim(stream: np.ndarray) -> Callable[[], object] | None:
    """The peer with page-sized lines, L1 of 64 and L2 of 1536 entries; one stream of loads, whatever the side."""
    try:
        import cachesim
    except ImportError:
        return None
    addresses = (stream & np.uint64((1 << 57) - 1)).tolist()

    def once() -> None:
        memory = cachesim.MainMemory()
        second = cachesim.Cache("L2", 128, 12, _PAGE, "LRU")
        first = cachesim.Cache("L1", 16, 4, _PAGE, "LRU", store_to=second, load_from=second)
        memory.load_to(second)
        memory.store_from(second)
        cachesim.CacheSimulator(first, memory).load(addresses)

    return once


def _streams(folder: Path, small: bool) -> dict[str, np.ndarray]:
    skip, count = (0, 100_000) if small else (3_000_000, 5_000_000)
    shown = {
        f"{one.name}, recorded": record(one, skip, count, folder / "pipe")
        for one in (gzip(folder, 500_000), python_loop(folder, True), sqlite(folder, True))
    }
    for name, pages in (
        ("32 pages at random", 32),
        ("1024 pages at random", 1024),
        ("1 GiB at random", 1 << 18),
    ):
        shown[name] = random_pages(pages, count)
    return shown


def test_tags_alone(small: bool, rounds: int, tmp_path: Path, benchmark) -> None:  # type: ignore[no-untyped-def]
    rates: dict[str, dict[str, float]] = {}

    def measure() -> None:
        for name, stream in _streams(tmp_path, small).items():
            subjects = {"quire": _ours(stream)}
            peer = _pycachesim(stream)
            if peer is not None:
                subjects["pycachesim"] = peer
            rates[name] = _rate(subjects, stream.size, rounds)

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["million_a_second"] = rates
    shown = table("Tags alone, skylake-x, million records a second", "stream", "quire", "pycachesim", "ratio")
    for name, rate in rates.items():
        peer = rate.get("pycachesim")
        ratio = "-" if peer is None else f"{rate['quire'] / peer:.1f}"
        shown.add_row(name, f"{rate['quire']:.1f}", "-" if peer is None else f"{peer:.1f}", ratio)


def test_with_walks(small: bool, rounds: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    size, count = (1 << 26, 50_000) if small else (1 << 30, 2_000_000)
    rates: dict[str, float] = {}
    spared: dict[str, float] = {}

    def measure() -> None:
        tables = big_tables(size, _PAGE, _PAGE)
        stream = records(tables.addresses(count, 1), Side.LOAD)

        def subject(name: str) -> Callable[[], object]:
            def once() -> None:
                tlb = Tlb(profile_by_name(name))
                tlb.enter(AddressSpace(1, 0, 1))
                walks = replay_walks(tlb, stream, tables.memory, tables.context)
                spared[name] = (walks.guest_references + walks.host_references) / walks.walks

            return once

        rates.update(_rate({name: subject(name) for name in (*_REAL, "none")}, count, rounds))

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["million_a_second"] = rates
    shown = table(
        f"Random reads of {size >> 20} MiB, 4 x 4 walks counted behind walk caches",
        *("profile", "M reads/s", "references a walk"),
    )
    for name, rate in rates.items():
        shown.add_row(name, f"{rate:.2f}", f"{spared[name]:.2f}")


def test_detail_full(small: bool, rounds: int, tmp_path: Path, benchmark) -> None:  # type: ignore[no-untyped-def]
    workloads = (gzip(tmp_path, 100_000 if small else 4_000_000), python_loop(tmp_path, small))
    taken: dict[str, dict[str, Timing]] = {}

    def run(workload, profile: str) -> Callable[[], Timing]:  # type: ignore[no-untyped-def]
        def once() -> Timing:
            workload.prepare()
            command = [QUIRE, "run", "--detail", "full", "--profile", profile, "--report", "none", "--"]
            return run_timed([*command, *workload.argv], workload.stdin, workload.cwd)

        return once

    def measure() -> None:
        for workload in workloads:
            subjects = {name: run(workload, name) for name in (_FLAT, *_REAL)}
            taken[workload.name] = interleave(subjects, dict.fromkeys(subjects, rounds))

    benchmark.pedantic(measure, rounds=1)
    shown = table("--detail full, seconds of processor time", "program", "flat", *_REAL, "worst ratio (1.3)")
    for name, timings in taken.items():
        flat = timings[_FLAT].cpu
        real = [timings[one].cpu for one in _REAL]
        shown.add_row(name, f"{flat:.2f}", *(f"{one:.2f}" for one in real), f"{max(real) / flat:.2f}")
    bytes_each = table("Memory of the model", "profile", "entries", "bytes an entry (64)")
    for name in _REAL:
        tlb = Tlb(profile_by_name(name))
        held = tlb.entries.nbytes + tlb.state.nbytes + tlb.shapes.nbytes + sys.getsizeof(tlb.state)
        bytes_each.add_row(name, str(tlb.capacity), f"{held / tlb.capacity:.1f}")
