"""What was measured beside what was predicted: the record, and on how many of the programs they agree.

The error is taken on the nanoseconds an access that 4 KiB pages cost more than 2 MiB, not on the ratio of times: who
always predicts the same time for both is wrong by 100 %. Below a hypervisor nobody says how large the host's pages are;
each size is a hypothesis, one for all programs, and the one that agrees with most is named.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quire.arch import CpuProfile
from quire.errors import MisuseError
from quire.study.costs import Costs
from quire.study.hardware.caches import measured_costs
from quire.study.hardware.counters import count_programs
from quire.study.hardware.prediction import Predicted, predict_programs
from quire.study.hardware.processor import Processor
from quire.study.hardware.programs import (
    PROGRAMS,
    Program,
    Timing,
    compile_programs,
    cycle_ns,
    time_programs,
)
from quire.version import __version__

__all__ = ["TOLERANCE", "compared", "hardware_record"]

#: What a prediction may be off, and on what share of the programs it must not be: three of five.
TOLERANCE, _ENOUGH = 0.30, 0.6
_SCHEMA = 1
#: Of the memory of a program with 2 MiB pages, what must really be in such pages; of one with 4 KiB, what may be.
_MOST_HUGE, _LEAST_HUGE = 0.05, 0.80
_HOST_PAGES = ("4K", "2M")
_LEAST_SIZE = 16 << 20
#: Published overheads of page walks on graph500, 4 KiB pages: native, and in a guest.
GRAPH500 = {
    "source": "Gandhi et al., MICRO 2014: graph500, time in page walks of 4 KiB pages over the rest",
    "native": 0.28,
    "virtual": 1.13,
}


def hardware_record(
    processor: Processor,
    profile: CpuProfile,
    costs: Costs,
    *,
    measure: bool = True,
    programs: Sequence[Program] = PROGRAMS,
    size: int,
    accesses: int,
    runs: int,
    jobs: int = 1,
    done: Callable[[str], object] = lambda what: None,
) -> dict[str, Any]:
    """Measure, predict, and return both with the error of each program.

    `measure` takes the latencies of caches and memory from this machine and not from `costs`. Raises MisuseError for a
    size that is no power of two or below 16 MiB, or without a C compiler; RunFailed for a program that could not be
    run.
    """
    if size < _LEAST_SIZE or size & (size - 1):
        raise MisuseError(f"A size of {size} bytes is none to measure: give a power of two from 16M on")
    host_pages: Sequence[str | None] = _HOST_PAGES if processor.virtual else (None,)
    with tempfile.TemporaryDirectory() as folder:
        made = compile_programs(Path(folder))
        clock = cycle_ns(made)
        if measure:
            costs = measured_costs(costs, made, clock, done)
        timings = time_programs(made, programs, size, accesses, runs, done)
        counters = count_programs(made, programs, size, accesses)
        predicted = predict_programs(made, programs, size, accesses, profile, costs, host_pages, jobs, done)
    rows = [compared(program, timings[program.name], predicted[program.name], clock) for program in programs]
    within = {page: sum(_of(row, page)["within"] for row in rows) for page in host_pages}
    best = max(host_pages, key=lambda page: (within[page], -_apart(rows, page)))
    return {
        "schema": _SCHEMA,
        "quire": __version__,
        "processor": asdict(processor),
        "config": {
            **_modelled(profile, costs),
            "size": size,
            "accesses": accesses,
            "runs": runs,
            "cycle_ns": round(clock, 4),
            "tolerance": TOLERANCE,
        },
        "rows": rows,
        "counters": counters,
        "hypotheses": [{"host_page": page, "within": within[page]} for page in host_pages],
        "host_page": best,
        "within": within[best],
        "enough": within[best] >= _ENOUGH * len(rows),
        "graph500": GRAPH500,
    }


def _modelled(profile: CpuProfile, costs: Costs) -> dict[str, Any]:
    """Return what the predictions are made with."""
    return {
        "profile": profile.name,
        "costs": costs.name,
        "latencies": {
            **{cache.name: cache.latency.value for cache in costs.caches},
            "memory": costs.local.value,
        },
        "walkers": profile.walkers,
    }


def compared(
    program: Program, timing: Timing, predicted: Sequence[Predicted], clock: float
) -> dict[str, Any]:
    """Return the row of one program. Where the pages were not those that were asked for, nothing is compared."""
    as_asked = timing.large_huge >= _LEAST_HUGE and timing.small_huge <= _MOST_HUGE
    return {
        "name": program.name,
        "title": program.title,
        "independent": program.independent,
        "measured": {
            "small_ns": round(timing.small_ns, 3),
            "large_ns": round(timing.large_ns, 3),
            "extra_ns": round(timing.extra_ns, 3),
            "ratio": round(timing.small_ns / timing.large_ns, 4),
            "large_huge": round(timing.large_huge, 4),
            "as_asked": as_asked,
        },
        "predicted": [_beside(one, timing, clock, as_asked) for one in predicted],
    }


def _beside(one: Predicted, timing: Timing, clock: float, as_asked: bool) -> dict[str, Any]:
    extra = one.extra_cycles * clock
    error = extra / timing.extra_ns - 1 if as_asked and timing.extra_ns > 0 else None
    return {
        "host_page": one.host_page,
        "extra_ns": round(extra, 3),
        "ratio": round(1 + extra / timing.large_ns, 4),
        "error": None if error is None else round(error, 4),
        "within": error is not None and abs(error) <= TOLERANCE,
        "walks": round(one.walks, 4),
        "references": round(one.references, 4),
    }


def _apart(rows: Sequence[Mapping[str, Any]], page: str | None) -> float:
    """Return how far predictions over host pages of that size are apart from what was measured, all together."""
    found = [_of(row, page)["error"] for row in rows]
    return float(sum(abs(error) for error in found if error is not None))


def _of(row: Mapping[str, Any], host_page: str | None) -> Mapping[str, Any]:
    """Return what is predicted for a row over host pages of that size."""
    return next(one for one in row["predicted"] if one["host_page"] == host_page)
