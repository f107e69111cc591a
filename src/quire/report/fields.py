"""Fields of the VMCS and the VMCB for people: a table, or a file to be filled in."""

from typing import IO, Any

from quire.report.page import open_console, print_lines
from quire.report.shown import cleaned

__all__ = ["render_fields_table", "render_template"]

_TEMPLATE_HEAD = """\
# A VMCS for quire lint --vmcs FILE: take the # away in front of what you know, and put the value there.
# What stays a comment is not given. quire explain reads dumps as they are.
"""


def render_fields_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write the fields of both, as far as there are any."""
    record = cleaned(record)
    from rich.table import Table
    from rich.text import Text

    console = open_console(file)
    for title, fields, columns in (
        ("VMCS (SDM 3D §B)", record["vmcs"], ("encoding", "name", "bits", "area")),
        ("VMCB (APM 2 §B)", record["vmcb"], ("offset", "name", "bits", "area")),
    ):
        if not fields:
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, no_wrap=True, justify="right" if column == "bits" else "left")
        for one in fields:
            table.add_row(*(Text(str(one[column])) for column in columns))
        print_lines(console, Text(title, "bold"), table)


def render_template(record: dict[str, Any], file: IO[str]) -> None:
    """Write the VMCS fields as TOML, each a comment with its encoding, width and area."""
    file.write(_TEMPLATE_HEAD)
    area = ""
    for one in record["vmcs"]:
        if one["area"] != area:
            area = one["area"]
            file.write(f"\n# {area}\n")
        file.write(f"# {one['name']} = 0x0  # {one['encoding']}, {one['bits']} bits\n")
