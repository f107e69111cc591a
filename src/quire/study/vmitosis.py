"""Slowdowns of GUPS with guest tables and EPT on local and remote nodes: measured by vMitosis, predicted by Quire.

vMitosis (Panwar et al., ASPLOS 2021) ran programs on one socket of four with the guest's page table and EPT each local
(L), remote (R), or remote on a node under interference (RI). Three of its configurations fit the two extra latencies of
a reference to a table, remote and remote with interference; the other four are predicted: the time of LL and, for each
reference that Quire counted on the other node and no cache served, the extra latency.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quire.study.gups_guest import Placed, count_placed

__all__ = ["MEASURED", "PAGES", "PLACEMENTS", "TOLERANCE", "UPDATES", "Measured", "vmitosis_record"]

#: Updates of the guest.
UPDATES = 400_000
#: Pages of 4 KiB that it updates.
PAGES = 65536
#: Bytes of last cache a page: 35.75 MiB of the paper's Xeon for 64 GiB of GUPS, in proportion.
CACHE_PER_PAGE = 35.75 * (1 << 20) / (16 << 20)
#: What a prediction may be off.
TOLERANCE = 0.05

_SOURCE = (
    "vMitosis artifact, evaluation/reference/data: Cascade Lake, 4 sockets, 4 KiB pages, GUPS on one socket"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One configuration: nodes of the guest's tables and of EPT, 1 being remote; whether remote is under interference;
    the published run time as a multiple of LL's.
    """

    name: str
    guest_tables: int
    host_tables: int
    interference: bool
    slowdown: float
    fitted: bool


#: GUPS, 260 s under LL.
MEASURED: Sequence[Measured] = (
    Measured("LL", 0, 0, False, 1.00, True),
    Measured("LR", 0, 1, False, 1.35, True),
    Measured("LRI", 0, 1, True, 2.10, True),
    Measured("RL", 1, 0, False, 1.36, False),
    Measured("RR", 1, 1, False, 1.68, False),
    Measured("RLI", 1, 0, True, 2.07, False),
    Measured("RRI", 1, 1, True, 3.05, False),
)

#: Runs that it takes: interference changes no count.
PLACEMENTS = len({(one.guest_tables, one.host_tables) for one in MEASURED})


def vmitosis_record(
    *,
    pages: int = PAGES,
    updates: int = UPDATES,
    done: Callable[[str], object] = lambda name: None,
) -> dict[str, Any]:
    """Return each configuration: references counted, slowdown published and predicted, and how far these are apart."""
    last_cache = int(CACHE_PER_PAGE * pages)
    counted: dict[tuple[int, int], Placed] = {}
    for one in MEASURED:
        place = one.guest_tables, one.host_tables
        if place not in counted:
            counted[place] = count_placed(
                pages, updates, guest_tables=place[0], host_tables=place[1], last_cache=last_cache
            )
            done(one.name)
    extra = {
        one.interference: (one.slowdown - 1) / _remote(counted[0, 1], updates)
        for one in MEASURED
        if one.fitted and one.host_tables
    }
    rows = [_row(one, counted[one.guest_tables, one.host_tables], extra, updates) for one in MEASURED]
    predicted = [row for row in rows if not row["fitted"]]
    return {
        "source": _SOURCE,
        "config": {"pages": pages, "updates": updates, "last_cache": last_cache, "tolerance": TOLERANCE},
        "extra": {"remote": round(extra[False], 6), "remote_under_interference": round(extra[True], 6)},
        "rows": rows,
        "within": sum(abs(row["error"]) <= TOLERANCE for row in predicted),
        "predicted": len(predicted),
    }


def _remote(placed: Placed, updates: int) -> float:
    """Return the references to remote tables of one update."""
    return sum(placed.remote.values()) / updates


def _row(one: Measured, placed: Placed, extra: Mapping[bool, float], updates: int) -> dict[str, Any]:
    predicted = 1 + _remote(placed, updates) * extra[one.interference]
    return {
        "name": one.name,
        "fitted": one.fitted,
        "remote": {kind: round(count / updates, 4) for kind, count in placed.remote.items()},
        "local": {kind: round(count / updates, 4) for kind, count in placed.local.items()},
        "published": one.slowdown,
        "predicted": round(predicted, 4),
        "error": round(predicted / one.slowdown - 1, 4),
    }
