"""A decoded number for people: an aligned table of its bits, reserved ones flagged."""

from typing import IO, Any

from quire.report.page import open_console, print_lines
from quire.report.shown import cleaned

__all__ = ["render_decode_table", "render_subjects"]

_STYLES = {"field": "", "reserved": "bold red", "ignored": "dim", "default1": "dim"}


def render_decode_table(record: dict[str, Any], file: IO[str], *, whole: bool = False) -> None:
    """Write what the record says; `whole` shows what is 0 as well."""
    record = cleaned(record)
    from rich.table import Table
    from rich.text import Text

    console = open_console(file)
    parts: list[object] = [Text(f"{record['title']} = {record['value']}  ({record['section']})", "bold")]
    if record["words"]:
        parts.append(Text(f"  {record['words']}"))
    odd = {*record["reserved_set"], *record["default1_clear"]}
    fields = [one for one in record["fields"] if whole or one["set"] or one["name"] in odd]
    if fields:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("bits", justify="right", no_wrap=True)
        table.add_column("name", no_wrap=True)
        table.add_column("value", no_wrap=True)
        table.add_column("meaning", overflow="fold")
        for one in fields:
            flag = "RESERVED, " if one["name"] in odd else ""
            cells = (one["bits"], one["name"], one["value"], flag + one["meaning"])
            style = "reserved" if one["name"] in odd else one["kind"] if one["set"] else "ignored"
            table.add_row(*map(Text, cells), style=_STYLES[style])
        parts.append(table)
    elif record["fields"]:
        parts.append(Text("  nothing is set"))
    for key, what in (("reserved_set", "reserved bits are set"), ("default1_clear", "default-1 bits are 0")):
        if record[key]:
            parts.append(Text(f"{what}: {', '.join(record[key])}", "bold red"))
    print_lines(console, *parts)


def render_subjects(subjects: dict[str, str], file: IO[str]) -> None:
    """Write the list of what can be decoded."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, what in subjects.items():
        table.add_row(Text(name), Text(what, "dim"))
    print_lines(open_console(file), table)
