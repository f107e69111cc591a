"""Cycles that a processor would spend on a run, from what was counted and what each event costs.

Every component is a count times a figure of the cost profile, so that each can be checked by hand. What the model
leaves out is in :data:`NOT_MODELLED`, which is shown wherever a prediction is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quire.study.capacity import MEMORY, groups_of, served_by
from quire.study.costs import Costs
from quire.study.counts import Counts

__all__ = ["COMPONENTS", "NOT_MODELLED", "Prediction", "predict", "predict_counts"]

#: The components of a prediction, in the order in which reports show them, with their names in words.
COMPONENTS: Mapping[str, str] = {
    "execution": "instructions",
    "tlb_l2": "L2 TLB look-ups",
    "walk_guest": "walks, guest tables",
    "walk_host": "walks, EPT",
    "exits": "VM exits",
    "guest_faults": "guest page faults",
    "clearing": "clearing memory",
}

#: What the model leaves out. Printed beside every prediction.
NOT_MODELLED: tuple[str, ...] = (
    "Walk caches as the silicon has them: their sizes are the profile's, most of them assumptions; walks without any "
    "are the upper bound.",
    "Overlap: no walk, miss or exit is hidden behind other instructions, so sums are upper bounds.",
    "Data and code caches: an instruction costs the same whatever it loads; tables have a fixed share of each cache.",
    "What an exit does to caches and TLBs beyond its own cycles, and flushes on processors without VPID.",
    "System calls, interrupts, devices and other vCPUs: only translation and its faults and exits differ.",
    "Native is the bare machine: exits that Quire itself needs to run a native guest cost nothing there.",
    "Memory is cleared once for the guest and once for its host, as much as is resident at the end; copies are not.",
    "Cycles of exits and faults are figures of the cost profile; those marked as assumptions were not published.",
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Cycles by component; references of walks by the level that serves them, exits by cause."""

    execution: float
    tlb_l2: float
    walk_guest: Mapping[str, float]
    walk_host: Mapping[str, float]
    exits: Mapping[str, float]
    guest_faults: float
    clearing: float

    def component(self, name: str) -> float:
        """Return the cycles of the component `name` of :data:`COMPONENTS`, summed."""
        value = getattr(self, name)
        return float(sum(value.values()) if isinstance(value, Mapping) else value)

    @property
    def total(self) -> float:
        """All cycles."""
        return sum(self.component(name) for name in COMPONENTS)

    def as_record(self) -> dict[str, Any]:
        """Return a plain record, rounded to whole cycles; sums are of the rounded parts."""
        parts = {name: _rounded(getattr(self, name)) for name in COMPONENTS}
        whole = sum(sum(part.values()) if isinstance(part, dict) else part for part in parts.values())
        return {**parts, "total": whole}


def predict(record: Mapping[str, Any], costs: Costs, *, remote_share: float = 0.0) -> Prediction:
    """Return the cycles of the run in `record`, which `quire run --detail full` made.

    `remote_share` of the references to memory are on another NUMA node. Raises MisuseError for a share outside 0 to 1
    and for a record that did not count the modelled TLB.
    """
    return predict_counts(Counts.of(record), costs, remote_share=remote_share)


def predict_counts(counts: Counts, costs: Costs, *, remote_share: float = 0.0) -> Prediction:
    """Return the cycles of a run that was counted otherwise; as :func:`predict`."""
    latency = {cache.name: cache.latency.value for cache in costs.caches}
    latency[MEMORY] = costs.memory_latency(remote_share)
    served = served_by(groups_of(counts), costs.caches)
    walks = {
        dimension: {level: references * latency[level] for level, references in levels.items()}
        for dimension, levels in served.items()
    }
    exits = {} if counts.mmu == "native" else counts.exits
    return Prediction(
        execution=counts.instructions * costs.instruction.value,
        tlb_l2=(counts.tlb_l2_hits + counts.tlb_misses) * costs.tlb_l2_hit.value,
        walk_guest=walks["guest"],
        walk_host=walks.get("host", dict.fromkeys(latency, 0.0)),
        exits={reason: count * costs.exit_cost(reason) for reason, count in exits.items()},
        guest_faults=counts.page_faults * (costs.fault_delivery.value + costs.fault_work.value),
        clearing=counts.cleared * costs.cleared_byte.value,
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: round(part) for name, part in value.items()}
    return round(value)
