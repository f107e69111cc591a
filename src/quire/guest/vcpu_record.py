"""What a run's report says of each vCPU, and sums over all of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from quire.guest.kernel.processors import Processors
from quire.guest.kernel.scheduler import Scheduler
from quire.machine import Vcpu
from quire.vcpu import counting

__all__ = ["all_events", "all_exits", "all_shadows", "all_walk_hits", "vcpu_rows"]


def all_events(vcpus: Sequence[Vcpu]) -> dict[str, int]:
    """Return what all vCPUs counted, by name."""
    found: Counter[str] = Counter()  # an engine may leave out what it does not count
    for one in vcpus:
        found.update(counting(one.cpu).events())
    return found


def all_exits(vcpus: Sequence[Vcpu]) -> dict[str, int]:
    """Return how often they exited, by the name of the reason, in the order of the reasons' numbers."""
    found = sum((Counter(one.exits) for one in vcpus), Counter())
    return {reason.name: count for reason, count in sorted(found.items())}


def all_shadows(vcpus: Sequence[Vcpu]) -> dict[str, int] | None:
    """Return what their shadows have and did, by name; None if they have none."""
    rows = [one.mmu.shadowed.counts() for one in vcpus if one.mmu.shadowed is not None]
    return {name: sum(row[name] for row in rows) for name in rows[0]} if rows else None


def all_walk_hits(vcpus: Sequence[Vcpu]) -> dict[str, int]:
    """Return how often their walk caches answered, by what those hold."""
    rows = [one.tlb.walk_hits() for one in vcpus]
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def vcpu_rows(processors: Processors, scheduler: Scheduler, *, full: bool) -> list[dict[str, Any]]:
    """Return a row for each vCPU. TLB misses are those of the first level, in `full` detail."""
    rows = []
    for number, one in enumerate(processors.all):
        events = counting(one.cpu).events()
        rows.append(
            {
                "node": one.node,
                "instructions": events.get("instructions"),
                "tlb_misses": one.tlb.first_misses if full else None,
                "walks": events["walks"],
                "page_faults": one.page_faults,
                "exits": sum(one.exits.values()),
                "switches": scheduler.lanes.all[number].switches,
                "shootdowns": {"sent": processors.sent[number], "received": processors.received[number]},
            }
        )
    return rows
