"""A cost profile of round figures, and records of runs as `quire run --detail full` writes them."""

from typing import Any

from quire.study import Costs, load_costs

PROFILE = """
name = "round"
[events]
instruction = { value = 1, source = "made up" }
tlb_l2_hit = { value = 10, source = "made up" }
fault_delivery = { value = 600, source = "made up" }
fault_work = { value = 400, source = "made up" }
cleared_byte = { value = 0.5, source = "made up" }
[exits]
round_trip = { value = 2000, source = "made up" }
[exits.work]
default = { value = 100, source = "assumption" }
EPT_VIOLATION = { value = 3000, source = "made up" }
INVLPG = { value = 500, source = "made up" }
[cache.l1]
size = { value = 1024, source = "made up" }
share = { value = 0.5, source = "made up" }
latency = { value = 1, source = "made up" }
[cache.l2]
size = { value = 1024, source = "made up" }
share = { value = 1, source = "made up" }
latency = { value = 10, source = "made up" }
[cache.l3]
size = { value = 2048, source = "made up" }
share = { value = 1, source = "made up" }
latency = { value = 100, source = "made up" }
[memory]
local = { value = 1000, source = "made up" }
remote = { value = 3000, source = "made up" }
"""


def round_costs(folder: Any) -> Costs:
    """Return the profile of round figures, read from a file."""
    path = folder / "round.toml"
    path.write_text(PROFILE)
    return load_costs(str(path))


def record(mmu: str = "native", **changes: Any) -> dict[str, Any]:
    """Return the parts of a run's record that studies read: 10 complete walks of 4 KiB pages."""
    host = {"mapped": 64 << 10, "resident": 64 << 10, "table_pages": 4}
    made: dict[str, Any] = {
        "config": {
            "mmu": mmu,
            "guest_page": 4096,
            "host_page": None if mmu == "native" else 4096,
            "detail": "full",
            "profile": "skylake-x",
        },
        "outcome": {"status": 0, "signal": None, "partial": False, "reason": None},
        "instructions": 500,
        "walk_caches": {},
        "tlb": {"l2": {"hits": 3, "misses": 10}},
        "walks": {
            "count": 10,
            "faulted": 0,
            "references": {"guest": 40, "host": 200 if mmu == "ept" else 0},
        },
        "region": None,
        "page_faults": 2,
        "exits": {"CPUID": 1} if mmu == "native" else {"CPUID": 1, "EPT_VIOLATION": 4},
        "numa": None,
        "memory": {
            "guest": {"mapped": 64 << 10, "resident": 64 << 10, "table_pages": 4},
            "host": None if mmu == "native" else host,
        },
    }
    if mmu == "shadow":
        made["memory"]["shadow"] = {"table_pages": 5}
    return made | changes
