"""The report of `quire run --schedules`: the outcomes of a program, how often each came, and how to see it again.

Takes the record that docs/reference/schedules.md describes; knows nothing of the model.
"""

import shlex
from collections.abc import Mapping
from typing import IO, Any

from quire.report.quantity import format_count
from quire.report.sheet import open_sheet

__all__ = ["render_schedules"]

_SHOWN, _WIDTH = 20, 44


def render_schedules(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write the record to `file`, coloured if `file` is a terminal that wants colour."""
    outcomes, command = record["outcomes"], shlex.join(record["command"])
    with open_sheet(file) as sheet:
        made = f"{format_count(record['schedules'])} schedules"
        if record["partial"]:
            made += f" of {format_count(record['asked'])}"
        sheet.title(f"quire run: {made} of {record['command'][0]}")
        columns = (("schedules", "right"), ("first", "right"), ("ended with", "left"), ("stdout", "left"))
        rows = [
            [
                format_count(one["count"]),
                str(one["first"]),
                one["signal"] or f"status {one['status']}",
                _stdout(one["stdout"]),
            ]
            for one in outcomes[:_SHOWN]
        ]
        sheet.table(columns, rows)
        if len(outcomes) > _SHOWN:
            sheet.text(f"  and {format_count(len(outcomes) - _SHOWN)} more outcomes: --json has them all")
        sheet.text("")
        if len(outcomes) == 1:
            sheet.highlight("every schedule had the same outcome")
        else:
            sheet.alarm(
                f"{format_count(len(outcomes))} outcomes: what the program does depends on who runs when"
            )
            sheet.text(f"  see one again: quire run --schedule {outcomes[-1]['first']} -- {command}")


def _stdout(written: Mapping[str, Any]) -> str:
    """Return the first line of what was written, or how much it was."""
    line = written["start"].split("\n")[0]
    if not written["bytes"]:
        return "nothing"
    short = line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
    more = written["bytes"] - len(line.encode()) > 1
    return f"{short} ({format_count(written['bytes'])} bytes)" if more or not line else short
