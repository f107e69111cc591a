"""What was found in a pasted text, for people: each record with its findings, walks and bits, then the rest."""

from itertools import pairwise
from typing import IO, Any

from quire.report.decode import render_decode_table
from quire.report.lint import render_findings_table
from quire.report.page import open_console, print_lines
from quire.report.shown import brief, cleaned
from quire.report.walk import render_walk_table

__all__ = ["render_explanation"]

_UNREAD_SHOWN = 10
_NOUNS = {"error": "error", "warning": "warning", "info": "note"}


def render_explanation(record: dict[str, Any], file: IO[str]) -> None:
    """Write the record of ``quire explain``; of lines that nobody understood the first ten."""
    from rich.text import Text

    console = open_console(file)
    for dump in record["dumps"]:
        plain = cleaned(dump)
        who = f" [{plain['context']}]" if plain["context"] else ""
        lines = f"line{'s' * (len(plain['lines']) > 1)} {_ranges(plain['lines'])}"
        head = f"{plain['number']}. {plain['title']}{who}: {lines}"
        print_lines(console, Text(head, "bold"))
        print_lines(console, *(Text(f"   {words}") for words in plain["words"]))
        print_lines(
            console,
            *(
                Text(f"   damaged in line {one['line']}: {one['name']}, {one['why']}", "yellow")
                for one in plain["damaged"]
            ),
        )
        render_findings_table(dump, file)
        for walk in dump["walks"]:
            render_walk_table(walk, file)
        for decoded in dump["decoded"]:
            render_decode_table(decoded, file)
        print_lines(console, Text(""))
    unread = record["unread"]
    parts = [
        Text(f"{len(unread)} line{'s' * (len(unread) != 1)} not understood" + (":" if unread else ""), "dim")
    ]
    for one in unread[:_UNREAD_SHOWN]:
        parts.append(Text(f"  {one['line']:>6}  {brief(str(cleaned(one)['text']))}", "dim"))
    if len(unread) > _UNREAD_SHOWN:
        parts.append(Text(f"  and {len(unread) - _UNREAD_SHOWN} more: --json has all", "dim"))
    print_lines(console, *parts, Text(_summary(record), "bold"))


def _ranges(lines: list[int]) -> str:
    """Return ascending numbers as ``3-7, 9``."""
    starts = [lines[0], *(after for before, after in pairwise(lines) if after != before + 1)]
    ends = [*(before for before, after in pairwise(lines) if after != before + 1), lines[-1]]
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _summary(record: dict[str, Any]) -> str:
    count = len(record["dumps"])
    found = ", ".join(
        f"{number} {_NOUNS[name]}{'s' * (number != 1)}" for name, number in record["totals"].items()
    )
    return (
        f"{count} record{'s' * (count != 1)}, {found} in {record['source']}; VMCSs for {record['processor']}, "
        f"walks for {record['profile']} with {record['maxphyaddr']} physical-address bits"
    )
