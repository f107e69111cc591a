"""The report of `quire audit`: what was proved, who has how many frames, how contiguous the free ones are.

Takes the record that docs/reference/audit.md describes; knows nothing of the model.
"""

from collections.abc import Mapping
from typing import IO, Any

from quire.report.quantity import format_count, format_size
from quire.report.sheet import open_sheet

__all__ = ["render_audit"]

_PAGE = 4096
_BREACHES_SHOWN = 20


def render_audit(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write the record to `file`, coloured if `file` is a terminal that wants colour."""
    breaches, frames = record["breaches"], record["frames"]
    with open_sheet(file) as sheet:
        sheet.title(f"quire audit: {record['program']['argv'][0]} under {record['config']['mmu']}")
        for breach in breaches[:_BREACHES_SHOWN]:
            sheet.alarm(f"  {breach}")
        if len(breaches) > _BREACHES_SHOWN:
            sheet.alarm(f"  and {format_count(len(breaches) - _BREACHES_SHOWN)} more: --json has them all")
        rows = [
            [kind.replace("_", " "), format_count(count), format_size(count * _PAGE)]
            for kind, count in frames["by_owner"].items()
            if count
        ]
        rows.append(["all", format_count(frames["total"]), format_size(frames["total"] * _PAGE)])
        sheet.table((("frames of 4 KiB", "left"), ("", "right"), ("", "right")), rows)
        sheet.text(f"  at most {format_count(frames['peak'])} were in use at one time")
        free = record["contiguity"]
        unusable = ", ".join(f"{100 * share:.1f} % for {size}" for size, share in free["unusable"].items())
        sheet.text(
            f"  largest free block {format_size(free['largest_free'] * _PAGE)}; free but unusable: {unusable}"
        )
        sheet.text("")
        if breaches:
            sheet.alarm(f"{format_count(len(breaches))} breaches in {format_count(record['audits'])} audits")
        else:
            sheet.highlight(
                f"{format_count(record['audits'])} audits: every frame has one owner; {format_count(record['tables'])} "
                f"tables are reached once each, {format_count(record['leaves'])} leaves map pages of their own machine"
            )
