"""The figures of cost profiles as a table, a star at each that is an assumption.

Takes the part `costs` of a comparison's record: of each profile every figure with its value and whether it is assumed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quire.report.sheet import Sheet

__all__ = ["STAR", "rests_on_assumption", "write_costs"]

#: Marks what rests on a figure that nobody published, or not for this processor.
STAR = "*"
_LEGEND = f"{STAR} an assumption: nobody published the figure, or not for this processor"
#: Of each component of a prediction the figures that it rests on: their paths, or what these begin with.
_RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "execution": ("events.instruction",),
    "tlb_l2": ("events.tlb_l2_hit",),
    "walk_guest": ("cache.", "memory."),
    "walk_host": ("cache.", "memory."),
    "exits": ("exits.",),
    "guest_faults": ("events.fault_",),
    "clearing": ("events.cleared_byte",),
}
#: Columns of the table, and the figures that each adds up.
_COLUMNS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("instruction", ("events.instruction",)),
    ("L2 TLB hit", ("events.tlb_l2_hit",)),
    ("fault", ("events.fault_delivery", "events.fault_work")),
    ("cleared byte", ("events.cleared_byte",)),
    ("exit", ("exits.round_trip", "exits.work.default")),
    *((name.upper(), (f"cache.{name}.latency",)) for name in ("l1", "l2", "l3")),
    ("memory", ("memory.local",)),
    ("remote", ("memory.remote",)),
)


def rests_on_assumption(figures: Mapping[str, Mapping[str, Any]], component: str) -> bool:
    """Whether one of the profile's figures that `component` rests on is an assumption."""
    return any(
        figure["assumption"] for path, figure in figures.items() if path.startswith(_RESTS_ON[component])
    )


def write_costs(sheet: Sheet, costs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row a profile, then what the star says and how many figures have one."""
    sheet.title("cycles of each event")
    columns = [("costs", "left"), *((name, "right") for name, _ in _COLUMNS)]
    sheet.table(
        columns,
        ([name, *(_sum(figures, paths) for _, paths in _COLUMNS)] for name, figures in costs.items()),
    )
    sheet.text(_LEGEND)
    for name, figures in costs.items():
        assumed = sum(figure["assumption"] for figure in figures.values())
        sheet.text(f"{assumed} of the {len(figures)} figures of {name} are assumptions.")


def _sum(figures: Mapping[str, Any], paths: Sequence[str]) -> str:
    found = [figures[path] for path in paths if path in figures]
    return " + ".join(f"{one['value']:g}{STAR * one['assumption']}" for one in found)
