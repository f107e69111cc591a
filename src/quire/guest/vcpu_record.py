"""What a run's report says of each vCPU."""

from typing import Any

from quire.guest.kernel.processors import Processors
from quire.guest.kernel.scheduler import Scheduler
from quire.vcpu import counting

__all__ = ["vcpu_rows"]


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
