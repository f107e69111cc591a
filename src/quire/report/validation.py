"""The reports of `quire validate`: reference counts beside the published ones, and the crossover of shadow and nested.

Takes the records of the study room; knows nothing of the model.
"""

from collections.abc import Mapping
from typing import IO, Any

from quire.report.quantity import format_count, format_size
from quire.report.sheet import Sheet, open_sheet

__all__ = ["render_crossover", "render_ladder", "render_references", "render_vmitosis"]

_ALONE = "no EPT"


def render_references(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write the matrix of references: a row for each EPT, a column for each guest; what differs is marked."""
    rows = record["rows"]
    guests = list(dict.fromkeys(row["guest"] for row in rows))
    with open_sheet(file) as sheet:
        sheet.title("references of a page walk, counted; in brackets what is published where it differs")
        matrix = []
        for host in dict.fromkeys(row["host"] for row in rows):
            cells = {row["guest"]: _cell(row) for row in rows if row["host"] == host}
            matrix.append([host or _ALONE, *(cells[guest] for guest in guests)])
        columns = [("EPT \\ guest", "left"), *((guest, "right") for guest in guests)]
        sheet.table(columns, matrix)
        sheet.text("")
        sheet.bullets(
            f"{sum(row['source'] == source for row in rows)}: {source}"
            for source in dict.fromkeys(row["source"] for row in rows)
        )
        sheet.text("")
        sentence = f"{record['equal']} of {record['total']} counts equal the published ones"
        (sheet.highlight if record["equal"] == record["total"] else sheet.alarm)(sentence)


def render_ladder(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write each rung: walks, references a walk in each dimension, what the rung spares, what is published."""
    with open_sheet(file) as sheet:
        sheet.title(
            f"{format_count(record['reads'])} random reads of a guest of {format_size(record['guest_bytes'])}, "
            f"4K guest pages, {record['profile']}; references a walk"
        )
        columns = [
            ("walk caches", "left"),
            *((name, "right") for name in ("walks", "guest", "EPT", "all", "less")),
        ]
        rows, before = [], None
        for row in record["rows"]:
            now, walks = row["references_per_walk"], row["walks"]
            less = "" if before is None else f"{100 * (1 - now / before):.1f} %"
            parts = (row["guest_references"] / walks, row["host_references"] / walks, now)
            rows.append([row["name"], format_count(walks), *(f"{part:.2f}" for part in parts), less])
            before = now
        sheet.table(columns, rows)
        sheet.text("")
        sheet.text(
            "Published by Bhargava et al., ASPLOS 2008, as run time on other programs and another processor:"
        )
        sheet.bullets(f"{row['name']}: {row['published']}" for row in record["rows"] if row["published"])
        sheet.text("")
        if record["falls"] and record["first_is_24"]:
            sheet.highlight("24 references without a cache, and fewer on every rung")
        else:
            sheet.alarm("not the published shape: 24 references without a cache, and fewer on every rung")


def _cell(row: Mapping[str, Any]) -> str:
    count = str(row["references"])
    return count if row["equal"] else f"{count} [{row['published']}]"


def render_crossover(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write cycles per read and what was counted for each number of updates, then both crossings."""
    config, mmus = record["config"], record["mmus"]
    with open_sheet(file) as sheet:
        sheet.title(
            f"{format_count(config['reads'])} scattered reads of {format_count(config['pages'])} pages, "
            f"{config['guest_page']}/{config['host_page']}, costs {config['costs']}; "
            "cycles are per read, updates per 1000 reads"
        )
        columns = [("updates", "right")]
        for mmu in mmus:
            columns += [(f"{mmu} cycles", "right"), ("walks", "right"), ("exits", "right")]
        sheet.table(columns, (_row(row, mmus) for row in record["rows"]))
        sheet.text("")
        _by_cause(sheet, record)
        sheet.highlight(record["crossing"]["sentence"])
        _formula(sheet, record)
        sheet.text(f"Published: {record['published']}")
        sheet.text("")
        sheet.title("what the model leaves out")
        sheet.bullets(record["not_modelled"])


def _row(row: Mapping[str, Any], mmus: list[str]) -> list[str]:
    cells = [str(row["updates"])]
    for mmu in mmus:
        counts = row["counts"][mmu]
        exits = sum(counts["exits"].values())
        cells += [f"{row['cycles_per_read'][mmu]:.1f}", format_count(counts["walks"]), format_count(exits)]
    return cells


def _by_cause(sheet: Sheet, record: Mapping[str, Any]) -> None:
    """Write the exits of the last row by cause, where there are any."""
    last = record["rows"][-1]
    for mmu in record["mmus"]:
        exits = last["counts"][mmu]["exits"]
        if exits:
            words = ", ".join(f"{name} {format_count(count)}" for name, count in exits.items())
            per_update = last["counts"][mmu]["exits_per_update"]
            sheet.text(f"{mmu} at {last['updates']}: {words}; {per_update:.2f} exits an update")
            sheet.text("")


def _formula(sheet: Sheet, record: Mapping[str, Any]) -> None:
    terms = record["crossing"]["formula"]
    sheet.text(f"Closed formula: {record['formula']}")
    if terms is not None:
        sheet.text(
            f"  {terms['misses']:.0f} x ({terms['c_2d']:.1f} - {terms['c_1d']:.1f}) / "
            f"({terms['c_exit']:.0f} + {terms['c_sync']:.0f}) = {terms['updates']:.1f} updates per 1000 reads, "
            "with two exits an update"
        )


def render_vmitosis(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write each placement of guest tables and EPT: references counted, slowdown published and predicted."""
    config, extra = record["config"], record["extra"]
    with open_sheet(file) as sheet:
        sheet.title(
            f"GUPS, {format_count(config['updates'])} updates of {format_count(config['pages'])} pages of 4 KiB, "
            f"last cache {format_count(config['last_cache'])} bytes"
        )
        columns = (
            ("tables, EPT", "left"),
            ("guest tables", "right"),
            ("EPT", "right"),
            ("published", "right"),
            ("predicted", "right"),
            ("off by", "right"),
            ("", "left"),
        )
        sheet.table(columns, (_placed(row) for row in record["rows"]))
        sheet.text("  references to remote tables that missed the cache, each update; run time over LL's")
        sheet.text("  L local, R remote, I the remote node is under interference")
        sheet.text(
            f"Fitted, in run times of LL for one reference an update: remote +{extra['remote']:.3f}, "
            f"under interference +{extra['remote_under_interference']:.3f}"
        )
        sheet.text(f"Published: {record['source']}")
        sheet.text("")
        text = f"{record['within']} of {record['predicted']} predictions are within {100 * config['tolerance']:.0f} %"
        (sheet.highlight if record["within"] == record["predicted"] else sheet.alarm)(text)


def _placed(row: Mapping[str, Any]) -> list[str]:
    remote = [f"{row['remote'][kind]:.3f}" for kind in ("guest_table", "host_table")]
    off = "" if row["fitted"] else f"{100 * row['error']:+.1f} %"
    return [
        row["name"],
        *remote,
        f"{row['published']:.2f}",
        f"{row['predicted']:.2f}",
        off,
        "fitted" * row["fitted"],
    ]
