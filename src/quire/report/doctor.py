"""The report of `quire doctor`: a line a fact, with what to do; what is missing stands out.

Takes facts that have the fields of :class:`quire.cli.facts.Fact`, by name; knows nothing of the model.
"""

from collections.abc import Iterable, Mapping
from typing import IO, Any

from quire.report.page import open_console, print_lines
from quire.report.shown import cleaned

__all__ = ["doctor_record", "render_doctor"]

_READY = "guests can run here"
_NOT_READY = "guests cannot run here: see what is marked with !"


def doctor_record(facts: Iterable[Any]) -> dict[str, Any]:
    """Return the facts as one plain record; `ready` is whether nothing is missing that guests need."""
    found = [
        {"name": one.name, "value": one.value, "advice": one.advice, "missing": one.missing} for one in facts
    ]
    return {"schema": 1, "ready": not any(one["missing"] for one in found), "facts": found}


def render_doctor(record: Mapping[str, Any], file: IO[str]) -> None:
    """Write a line a fact, aligned, then whether guests can run."""
    from rich.table import Table
    from rich.text import Text

    record = cleaned(record)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for _ in ("mark", "name", "value", "advice"):
        table.add_column(overflow="fold")
    for one in record["facts"]:
        mark = Text("!" if one["missing"] else "", "bold red")
        table.add_row(mark, Text(one["name"]), Text(one["value"]), Text(one["advice"], "dim"))
    last = Text(_READY, "bold green") if record["ready"] else Text(_NOT_READY, "bold red")
    print_lines(open_console(file), table, last)
