"""How long this machine's caches and memory take, by a chase through as many lines as a level has for tables.

The latencies belong to the machine and to who else uses it, more than to its kind: what 4 KiB pages cost here is
predicted with those of here. Sizes and shares stay those of the cost profile.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from quire.study.costs import Costs, Figure
from quire.study.hardware.programs import LARGE, run_program

__all__ = ["CHASES", "measured_costs"]

_RUNS, _READS = 3, 2_000_000
#: Beyond the last cache by as much.
_BEYOND = 4
_LINES = "lines"
_SOURCE = "measured on this machine: a dependent read of a line, among as many as the level has for tables"
#: Levels that are measured: three caches and memory.
CHASES = 4


def measured_costs(costs: Costs, made: Path, clock: float, done: Callable[[str], object]) -> Costs:
    """Return `costs` with the latencies that this machine shows; `clock` is nanoseconds a cycle."""

    def latency(name: str, size: float) -> Figure:
        lines = 1 << max(12, int(size).bit_length() - 1)
        took = [run_program(made, _LINES, lines, _READS, LARGE)[0] for _ in range(_RUNS)]
        done(f"latency of {name}")
        return Figure(round(statistics.median(took) / clock, 2), _SOURCE)

    caches = tuple(replace(cache, latency=latency(cache.name, cache.capacity)) for cache in costs.caches)
    local = latency("memory", costs.caches[-1].size.value * _BEYOND)
    figures = {
        **costs.figures,
        **{f"cache.{cache.name}.latency": cache.latency for cache in caches},
        "memory.local": local,
    }
    return replace(costs, name=f"{costs.name} as measured here", caches=caches, local=local, figures=figures)
