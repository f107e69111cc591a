"""The reports of `quire numa`: the nodes, where memory went, and which references were remote.

Takes the records that docs/reference/numa.md describes; knows nothing of the model.
"""

from collections.abc import Mapping, Sequence
from typing import IO, Any

from quire.report.quantity import format_count, format_cycles, format_size
from quire.report.sheet import open_sheet

__all__ = ["numa_rows", "render_numa", "render_topology"]

Record = Mapping[str, Any]
_PAGE = 4096
_KINDS = {"guest_table": "guest tables", "host_table": "EPT", "data": "data"}
_FRAMES = {"guest_pages": "guest pages", "guest_tables": "guest tables", "host_tables": "EPT, shadow"}


def render_topology(record: Record, file: IO[str]) -> None:
    """Write the nodes: memory, distances, the order in which an allocation falls back."""
    sizes = record["sizes"]
    with open_sheet(file) as sheet:
        sheet.title(f"{len(sizes)} NUMA node{'s' if len(sizes) > 1 else ''}, {record['source']}")
        columns = [("node", "right"), ("memory", "right"), *((f"to {n}", "right") for n in range(len(sizes)))]
        rows = [
            [
                str(node),
                format_size(size),
                *map(str, record["distances"][node]),
                " ".join(map(str, record["fallback"][node])),
            ]
            for node, size in enumerate(sizes)
        ]
        sheet.table([*columns, ("falls back to", "left")], rows)
        if len(sizes) == 1:
            sheet.text("Nothing is remote on one node: declare nodes of the model, for instance --numa 2x8G.")


def render_numa(record: Record, file: IO[str]) -> None:
    """Write, for each placement, where memory went, which references were remote, and what they cost."""
    runs = record["runs"]
    config = record["config"]
    with open_sheet(file) as sheet:
        sheet.title(
            f"quire numa: {record['program']['argv'][0]} under {config['mmu']}, {config['profile']}, "
            f"costs {config['costs']}, last cache {format_size(config['last_cache'])}"
        )
        if record["partial"]:
            sheet.alarm("PARTIAL: interrupted before every placement had run")
        if not record["same_output"]:
            sheet.alarm("NOT THE SAME: the program wrote other bytes under another placement")
        for run in runs:
            sheet.text("")
            _placement(sheet, run)
        sheet.text("")
        sheet.title("remote references")
        kinds = [kind for kind in _KINDS if kind in runs[0]["numa"]["references"]]
        columns = [("placement", "left"), *((_KINDS[kind], "right") for kind in kinds)]
        columns += [(name, "right") for name in ("past the cache", "added cycles", "an instruction")]
        best = min(range(len(runs)), key=lambda n: runs[n]["cost"]["total"])
        sheet.table(columns, [_references(run, kinds) for run in runs], {best} if len(runs) > 1 else set())
        sheet.text("")
        sheet.title("what the cost leaves out")
        sheet.bullets(record["not_modelled"])


def numa_rows(numa: Record) -> list[tuple[str, str, str]]:
    """Return the rows of a run's report: what lies where, and what was remote."""
    rows = [("policy", str(numa["policy"]), f"vCPU on node {_nodes(numa)}")]
    for kind, title in _FRAMES.items():
        frames = numa["frames"][kind]
        if any(frames):
            rows.append((title, format_count(sum(frames)), f"frames; by node {_listed(frames)}"))
    for kind, title in _KINDS.items():
        found = numa["references"].get(kind)
        if found is not None and found["local"] + found["remote"]:
            rows.append(
                (f"remote, {title}", format_count(found["remote"]), f"references, {_percent(found)} of them")
            )
    if numa["fell_back"]:
        rows.append(
            (
                "fell back",
                format_count(numa["fell_back"]),
                "allocations that their first node had no room for",
            )
        )
    return rows


def _nodes(numa: Record) -> str:
    """Return where each vCPU runs, once if all run on one node."""
    nodes = numa["vcpu_nodes"]
    return ", ".join(map(str, nodes if len(set(nodes)) > 1 else nodes[:1]))


def _placement(sheet: Any, run: Record) -> None:
    numa = run["numa"]
    tables = "a copy on every node" if numa["replicated"] else numa["host_tables"]
    sheet.title(f"{run['name']}: guest tables {numa['guest_tables']}, EPT or shadow {tables}")
    columns = [("node", "right"), *((title, "right") for title in _FRAMES.values()), ("free", "right")]
    frames = numa["frames"]
    rows = [
        [f"{node} *" if node in numa["vcpu_nodes"] else str(node)]
        + [format_count(frames[kind][node]) for kind in _FRAMES]
        + [format_size(frames["free"][node] * _PAGE)]
        for node in range(len(numa["topology"]["sizes"]))
    ]
    sheet.table(columns, rows)
    if numa["fell_back"]:
        sheet.text(f"  {format_count(numa['fell_back'])} allocations found their first node full")
    sheet.text("  frames of 4 KiB; * is where the vCPU runs")


def _references(run: Record, kinds: Sequence[str]) -> list[str]:
    found, cost = run["numa"]["references"], run["cost"]
    share = "-" if cost["per_instruction"] is None else f"{cost['per_instruction']:+.3f}"
    cells = [f"{format_count(found[kind]['remote'])} ({_percent(found[kind])})" for kind in kinds]
    missed = sum(
        count
        for kind in kinds
        for a, row in enumerate(found[kind]["in_memory"])
        for b, count in enumerate(row)
        if a != b
    )
    return [run["name"], *cells, format_count(missed), format_cycles(cost["total"]), share]


def _percent(found: Record) -> str:
    whole = found["local"] + found["remote"]
    return f"{100 * found['remote'] / whole:.1f} %" if whole else "-"


def _listed(frames: Sequence[int]) -> str:
    return ", ".join(format_count(count) for count in frames)
