"""What remote references of a run cost: counts of its record times latencies of a cost profile, and nothing else.

A reference that no cache served costs by the distance between nodes: at 10 the profile's local latency, at 20 its
remote one, in proportion between and beyond.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quire.guest.run_spec import RunSpec
from quire.memory.numa import LOCAL_DISTANCE, REMOTE_DISTANCE
from quire.mmu import NumaConfig
from quire.study.costs import Costs

__all__ = ["NUMA_NOT_MODELLED", "NumaChoice", "numa_cost", "numa_study"]

#: What the cost leaves out; printed beside it.
NUMA_NOT_MODELLED: tuple[str, ...] = (
    "Contention: a remote reference costs the same however many there are.",
    "Caches but the last one: it alone decides what reaches memory, and it sees every reference.",
    "Overlap: no reference is hidden behind another, so sums are upper bounds.",
    "Fetches of instructions, devices, and the hypervisor's own accesses.",
)


@dataclass(frozen=True, slots=True)
class NumaChoice:
    """One way to place a guest, as the study of a run lists it: its name, and what it wants of the nodes."""

    name: str
    numa: NumaConfig

    def apply(self, spec: RunSpec) -> RunSpec:
        """Return the run that `spec` describes, placed so. Raises MisuseError for what cannot be."""
        return replace(spec, config=replace(spec.config, numa=self.numa))


def numa_cost(record: Mapping[str, Any], costs: Costs) -> dict[str, Any]:
    """Return the predicted cycles that remote references of a run add, by kind, from the run's record."""
    numa = record["numa"]
    distances = numa["topology"]["distances"]
    added = {kind: _extra(one["in_memory"], distances, costs) for kind, one in numa["references"].items()}
    total = sum(added.values())
    return {
        "added_cycles": {kind: round(cycles) for kind, cycles in added.items()},
        "total": round(total),
        "per_instruction": None if not record["instructions"] else round(total / record["instructions"], 6),
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
