"""What a run's record says of what its Cpus counted, and of what a check of flushes found."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quire.machine import Vcpu
from quire.vcpu import counting

__all__ = [
    "access_counts",
    "all_events",
    "all_exits",
    "all_shadows",
    "all_walk_hits",
    "flush_records",
    "tlb_counts",
    "walk_counts",
]


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


def access_counts(events: Mapping[str, int]) -> dict[str, int]:
    """Return accesses by kind."""
    return {"read": events["reads"], "write": events["writes"], "fetch": events["instructions"]}


def tlb_counts(events: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return hits and misses by level. An access is looked up once a page: one that crosses a page, twice."""
    data = events["reads"] + events["writes"] + events["splits"]
    fetch = events["instructions"] + events["fetch_pages"]
    found = {
        "l1d": {"hits": data - events["l1d_misses"], "misses": events["l1d_misses"]},
        "l1i": {"hits": fetch - events["l1i_misses"], "misses": events["l1i_misses"]},
    }
    lookups, level = events["l1d_misses"] + events["l1i_misses"], 2
    while f"l{level}d_misses" in events:
        misses = events[f"l{level}d_misses"] + events[f"l{level}i_misses"]
        found[f"l{level}"] = {"hits": lookups - misses, "misses": misses}
        lookups, level = misses, level + 1
    return found


def walk_counts(events: Mapping[str, int]) -> dict[str, Any]:
    """Return walks, and the references that they made."""
    count = events["walks"]
    guest, host = events["guest_references"], events["host_references"]
    return {
        "count": count,
        "faulted": events["faulted_walks"],
        "to_set_dirty": events["dirty_walks"],
        "references": {"guest": guest, "host": host},
        "references_per_walk": {
            "guest": round(guest / count, 4) if count else 0.0,
            "host": round(host / count, 4) if count else 0.0,
        },
    }


def flush_records(vcpus: Sequence[Vcpu], name: Callable[[int], str | None]) -> dict[str, Any] | None:
    """Return what a check of flushes found on all vCPUs, None without one; `name` tells whose code is at an address."""
    records = [one.flush_check.record(name) for one in vcpus if one.flush_check is not None]
    if not records:
        return None
    return {key: [row for record in records for row in record[key]] for key in records[0]}
