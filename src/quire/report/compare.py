"""The report of a comparison: a row a configuration, where the cycles go, which is cheapest and why.

Takes the record that docs/reference/compare.md describes; knows nothing of the model. A guest that did not compute the
same under each configuration is said first and in red.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from quire.report.costs import STAR, rests_on_assumption, write_costs
from quire.report.quantity import format_count, format_cycles, format_size
from quire.report.sheet import Sheet, open_sheet

__all__ = ["COMPONENT_TITLES", "component_cycles", "render_compare_table"]

#: Components of a prediction by their keys in `cycles`, in the order in which they are shown.
COMPONENT_TITLES: Mapping[str, str] = {
    "execution": "execution",
    "tlb_l2": "L2 TLB",
    "walk_guest": "walks",
    "walk_host": "EPT walks",
    "exits": "VM exits",
    "guest_faults": "faults",
    "clearing": "clearing",
}
_CAUSES_SHOWN = 3


def component_cycles(row: Mapping[str, Any], component: str) -> int:
    """Return the predicted cycles of one component, summed where it is split."""
    value = row["cycles"][component]
    return sum(value.values()) if isinstance(value, Mapping) else int(value)


def render_compare_table(record: Mapping[str, Any], file: IO[str], *, bound: bool = False) -> None:
    """Write the record to `file` as tables and sentences, coloured if `file` is a terminal that wants colour.

    `bound` adds what each row would be if every walk made all its references.
    """
    with open_sheet(file) as sheet:
        sheet.title(f"quire compare: {record['program']['argv'][0]}")
        if record["partial"]:
            sheet.alarm("PARTIAL: interrupted before every configuration had run")
        for sentence in record["differences"]:
            sheet.alarm(f"NOT THE SAME: {sentence}")
        for verdict in record["verdicts"]:
            _processor(sheet, record, verdict, bound)
        write_costs(sheet, record["costs"])
        sheet.text("")
        sheet.title("what the model leaves out")
        sheet.bullets(record["not_modelled"])


def _processor(sheet: Sheet, record: Mapping[str, Any], verdict: Mapping[str, Any], bound: bool) -> None:
    """Write what ran on the processor of `verdict`, then the verdict."""
    rows = [row for row in record["rows"] if row["profile"] == verdict["profile"]]
    marked, costs = _marked(rows, verdict["winner"]), rows[0]["costs"]
    sheet.title(f"{verdict['profile']}, costs {costs}")
    sheet.table(_COUNTED, (_counted(row) for row in rows), marked)
    if any(row["remote"] for row in rows):
        sheet.text("")
        sheet.title("references to other NUMA nodes")
        sheet.table(_REMOTE, (_remote(row) for row in rows), marked)
    sheet.text("")
    sheet.title("predicted cycles")
    sheet.table(
        _predicted_columns(rows, record["costs"][costs]), (_predicted(row, rows) for row in rows), marked
    )
    if bound:
        sheet.text("")
        sheet.title("upper bound: no walk caches, every walk makes all its references")
        sheet.table(_BOUND, (_bound(row) for row in rows), _marked(rows, verdict["bound_winner"]))
    sheet.text("")
    sheet.highlight(verdict["sentence"])
    sheet.text("")


_COUNTED = (
    ("configuration", "left"),
    ("walks", "right"),
    ("refs/walk", "right"),
    ("TLB misses", "right"),
    ("faults", "right"),
    ("tables", "right"),
    ("VM exits", "right"),
    ("by cause", "left"),
)


def _counted(row: Mapping[str, Any]) -> list[str]:
    walks, exits = row["walks"], row["exits"]
    return [
        row["name"],
        format_count(walks["count"]),
        f"{walks['references_per_walk']:.2f}",
        format_count(row["tlb"]["misses"]),
        format_count(row["page_faults"]),
        format_size(row["table_bytes"]["total"]),
        *(
            ("-", "")
            if row["mmu"] == "native"
            else (format_count(exits["total"]), _causes(exits["by_reason"]))
        ),
    ]


_REMOTE = (
    ("configuration", "left"),
    *((name, "right") for name in ("tables, local", "tables, remote", "data, local", "data, remote")),
)


def _remote(row: Mapping[str, Any]) -> list[str]:
    counts = [row["remote"][kind][where] for kind in ("tables", "data") for where in ("local", "remote")]
    return [row["name"], *map(format_count, counts)]


_BOUND = (
    ("configuration", "left"),
    *((name, "right") for name in ("refs/walk", "guest references", "EPT references", "total", "vs native")),
)


def _bound(row: Mapping[str, Any]) -> list[str]:
    bound = row["bound"]
    references = [format_count(bound["references"][which]) for which in ("guest", "host")]
    percent = _percent(bound["over_native"])
    return [
        row["name"],
        f"{bound['references_per_walk']:.2f}",
        *references,
        format_cycles(bound["cycles"]),
        percent,
    ]


def _percent(over: float | None) -> str:
    return "-" if over is None else f"{100 * over:+.1f} %"


def _causes(by_reason: Mapping[str, int]) -> str:
    ranked = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{name} {format_count(count)}" for name, count in ranked[:_CAUSES_SHOWN]]
    rest = sum(count for _, count in ranked[_CAUSES_SHOWN:])
    return ", ".join([*words, f"others {format_count(rest)}"] if rest else words)


def _predicted_columns(rows: Sequence[Mapping[str, Any]], costs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the columns of predicted cycles; the titles of those that rest on an assumption end in a star."""
    shown = [key for key in COMPONENT_TITLES if _is_shown(key, rows)]
    names = [(COMPONENT_TITLES[key] + STAR * rests_on_assumption(costs, key), "right") for key in shown]
    return [("configuration", "left"), *names, ("total", "right"), ("vs native", "right")]


def _predicted(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [component_cycles(row, key) for key in COMPONENT_TITLES if _is_shown(key, rows)]
    percent = _percent(row["overhead"]["over_native"])
    return [row["name"], *map(format_cycles, parts), format_cycles(row["cycles"]["total"]), percent]


def _is_shown(component: str, rows: Iterable[Mapping[str, Any]]) -> bool:
    return any(component_cycles(row, component) for row in rows)


def _marked(rows: Iterable[Mapping[str, Any]], name: str) -> set[int]:
    return {number for number, row in enumerate(rows) if row["name"] == name}
