"""What remote references of a run cost: counts of its record times latencies of a cost profile, and nothing else.

A reference costs by the distance between nodes: at 10 the profile's local latency, at 20 its remote one, in proportion
between and beyond. Of references to tables those reach memory for which no cache has room: the share of leaf entries
beyond the tables' share of the last cache. Of data accesses the profile says how many do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quire.memory.numa import LOCAL_DISTANCE, REMOTE_DISTANCE
from quire.study.costs import Costs

__all__ = ["NUMA_NOT_MODELLED", "NumaChoice", "numa_cost", "numa_study"]

_ENTRY = 8
_TABLE_KINDS = ("guest_table", "host_table")

#: What the cost leaves out; printed beside it.
NUMA_NOT_MODELLED: tuple[str, ...] = (
    "Contention: a remote reference costs the same however many there are.",
    "Caches of data: a fixed share of data accesses reaches memory, whatever the program's locality.",
    "Caches of tables by address: what reaches memory is what leaf entries have beyond their share of the last cache.",
    "Fetches of instructions, devices, and the hypervisor's own accesses.",
)


@dataclass(frozen=True, slots=True)
class NumaChoice:
    """One way to place a guest, as the study of a run lists it: its name, and the options of `quire run` for it."""

    name: str
    arguments: tuple[str, ...]

    def options(self) -> list[str]:
        """Return the options that make `quire run` run it."""
        return list(self.arguments)


def numa_cost(record: Mapping[str, Any], costs: Costs) -> dict[str, Any]:
    """Return the predicted cycles that remote references of a run add, by kind, from the run's record."""
    numa = record["numa"]
    distances = numa["topology"]["distances"]
    share = _tables_in_memory(record, costs)
    added = {}
    for kind, found in numa["references"].items():
        in_memory = share if kind in _TABLE_KINDS else costs.data_share.value
        added[kind] = in_memory * _extra(found["matrix"], distances, costs)
    total = sum(added.values())
    return {
        "tables_in_memory": round(share, 6),
        "data_in_memory": costs.data_share.value,
        "added_cycles": {kind: round(cycles) for kind, cycles in added.items()},
        "total": round(total),
        "of_run": None if not record["instructions"] else round(total / record["instructions"], 6),
    }


def numa_study(record: Mapping[str, Any], costs: Costs) -> dict[str, Any]:
    """Return what a run left, as the reports of `quire numa` show it: placement, references, cost."""
    return {
        "outcome": record["outcome"],
        "numa": record["numa"],
        "walks": record["walks"],
        "instructions": record["instructions"],
        "cost": numa_cost(record, costs),
    }


def _extra(matrix: Sequence[Sequence[int]], distances: Sequence[Sequence[int]], costs: Costs) -> float:
    """Return the cycles that references from node to node add to what they would cost if all were local."""
    step = (costs.remote.value - costs.local.value) / (REMOTE_DISTANCE - LOCAL_DISTANCE)
    return sum(
        count * step * (distances[a][b] - LOCAL_DISTANCE)
        for a, row in enumerate(matrix)
        for b, count in enumerate(row)
    )


def _tables_in_memory(record: Mapping[str, Any], costs: Costs) -> float:
    """Return the share of references to leaf entries that no cache serves."""
    memory, config = record["memory"], record["config"]
    size = memory["guest"]["resident"] // config["guest_page"] * _ENTRY
    if config["mmu"] == "ept":
        size += memory["host"]["mapped"] // config["host_page"] * _ENTRY
    capacity = max(cache.capacity for cache in costs.caches)
    return max(0.0, 1 - capacity / size) if size else 0.0
