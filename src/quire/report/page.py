"""How reports are printed: on a console that colours on terminals and is wide elsewhere, or as JSON."""

import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PAGE_WIDTH", "open_console", "print_lines", "render_json"]

PAGE_WIDTH = 110  # of a report in a file, whose longer cells are folded

_FILE_WIDTH = 500  # of a file or a pipe: lines stay whole there, for grep and diff


def open_console(file: IO[str], width: int = _FILE_WIDTH) -> "Console":
    """Return a console that writes to `file`: as wide as the terminal that it is, else `width` columns."""
    from rich.console import Console

    console = Console(file=file, highlight=False)
    return console if console.is_terminal else Console(file=file, highlight=False, width=width)


def print_lines(console: "Console", *parts: object) -> None:
    """Print `parts` without the blanks that tables leave at the ends of lines."""
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    console.file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())


def render_json(record: Mapping[str, Any]) -> str:
    """Return the record as one JSON object, keys in the record's order, with a newline at the end; ASCII alone."""
    return json.dumps(record, indent=2) + "\n"
