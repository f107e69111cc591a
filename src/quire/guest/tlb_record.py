"""The plain record of what the TLBs and walk caches of a run held at its end: data for reports and JSON.

docs/reference/tlb.md has its fields.
"""

from collections import Counter
from typing import Any

from quire.arch import PAGES, TlbGeometry
from quire.guest.session import Session
from quire.tlb import Structure, TlbTable
from quire.version import __version__

__all__ = ["SCHEMA", "tlb_record"]

#: Version of the record's shape; grows when a field changes its meaning or goes.
SCHEMA = 1

_SIZES = {size: name for name, size in PAGES.items()}


def tlb_record(session: Session, entries: TlbTable, matching: int) -> dict[str, Any]:
    """Return the record of a run that has ended: every structure, and of its entries those in `entries`.

    `matching` is how many of all passed the user's filters.
    """
    record, until = session.record, session.region.end
    return {
        "schema": SCHEMA,
        "quire": __version__,
        "program": record["program"],
        "config": record["config"],
        "ended": {
            "at": "the end of the program" if until is None else until.text,
            "reached": until is None or session.region.ended,
            "status": session.status,
        },
        "structures": _structures(session),
        "matching": matching,
        "entries": entries.to_records(),
    }


def _structures(session: Session) -> list[dict[str, Any]]:
    table, use = session.tlb.table(), session.tlb.set_use()
    found = []
    for one in session.tlb.structures:
        held = table.where(structure=one.name).array
        sets = use.get(one.name)
        found.append(
            {
                "name": one.name,
                **_shape(one),
                "used": len(held),
                "by_kind": _by_kind(held["kind"].tolist(), held["size"].tolist()),
                "set_use": None
                if sets is None
                else {"used": sets.used.tolist(), "fills": sets.fills.tolist()},
            }
        )
    return found


def _shape(one: Structure) -> dict[str, int | None]:
    level = one.geometry.level if isinstance(one.geometry, TlbGeometry) else 0
    if not one.bounded:
        return {"level": level, "capacity": None, "sets": None, "ways": None}
    return {"level": level, "capacity": one.sets * one.ways, "sets": one.sets, "ways": one.ways}


def _by_kind(kinds: list[str], sizes: list[int]) -> dict[str, int]:
    """Return how many entries there are of each size of page, or each kind of paging-structure entry."""
    names = (_SIZES[size] if kind == "page" else kind for kind, size in zip(kinds, sizes, strict=True))
    return dict(sorted(Counter(names).items()))
