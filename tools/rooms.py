"""Draws the rooms of Quire from its source: who imports whom, and how large each is.

``python tools/rooms.py`` prints the table; ``python tools/rooms.py --write docs/architecture.md`` puts it between the
two markers of that document and draws ``rooms.svg`` beside it. The picture is made from the table alone.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from import_graph import SourceTree, circles
from room_drawing import drawn

__all__ = [
    "BEGIN",
    "END",
    "PICTURE",
    "SOURCE",
    "Room",
    "between_markers",
    "picture",
    "rooms_of",
    "rows",
    "table",
    "written",
]

SOURCE = Path(__file__).parent.parent / "src" / "quire"
BEGIN = "<!-- rooms: written by tools/rooms.py -->"
END = "<!-- rooms: end -->"
PICTURE = "rooms.svg"


@dataclass(frozen=True)
class Room:
    """One package or file directly below ``src/quire``."""

    name: str
    files: int
    lines: int
    imports: tuple[str, ...]


def rooms_of(tree: SourceTree) -> list[Room]:
    """Return the rooms of a tree, each after those that it imports."""
    #: No rooms: the whole package's own face, and what ``python -m quire`` runs.
    doors = (tree.package, "__main__")
    members: dict[str, list[str]] = {}
    for module in tree.files:
        members.setdefault(tree.room_of(module), []).append(module)
    rooms = {
        name: Room(
            name,
            len(modules),
            sum(len(tree.files[module].read_text().splitlines()) for module in modules),
            tuple(sorted(tree.rooms[name].difference(doors))),
        )
        for name, modules in members.items()
        if name not in doors
    }
    found = circles({name: set(room.imports) for name, room in rooms.items()}, rooms)
    if found:
        raise ValueError(f"rooms that import each other: {found}")
    ordered: list[Room] = []
    while rooms:
        free = sorted(name for name, room in rooms.items() if not rooms.keys() & set(room.imports))
        ordered += [rooms.pop(name) for name in free]
    return ordered


def table(rooms: list[Room]) -> str:
    """Return the rooms as a table of Markdown."""
    return "\n".join(
        [
            "| room | files | lines | imports |",
            "|---|---|---|---|",
            *(f"| {one.name} | {one.files} | {one.lines} | {', '.join(one.imports)} |" for one in rooms),
        ]
    )


def rows(text: str) -> list[Room]:
    """Read the rooms back from what :func:`table` wrote."""
    found = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (.*?) ?\|$", text, re.MULTILINE)
    return [
        Room(name, int(files), int(lines), tuple(filter(None, imports.split(", "))))
        for name, files, lines, imports in found
    ]


def between_markers(document: str) -> str:
    """Return what a document has between the two markers."""
    return document.partition(BEGIN)[2].partition(END)[0]


def written(document: str, rooms: list[Room]) -> str:
    """Return `document` with the picture and the table of `rooms` between its markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} and {END}")
    picture = f"![The rooms in layers: each imports only rooms above it]({PICTURE})"
    return f"{before}{begin}\n{picture}\n\n{table(rooms)}\n{end}{after}"


def picture(rooms: list[Room]) -> str:
    """Return the drawing of `rooms` as SVG."""
    return drawn(
        {one.name: set(one.imports) for one in rooms},
        {
            one.name: f"{one.files} {'file' if one.files == 1 else 'files'}, {one.lines} lines"
            for one in rooms
        },
    )


def main(arguments: list[str]) -> None:
    """Print the table, or write it into a document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="the document that has the markers")
    options = parser.parse_args(arguments)
    rooms = rooms_of(SourceTree(SOURCE))
    if options.write is None:
        print(table(rooms))
        return
    options.write.write_text(written(options.write.read_text(), rooms))
    (options.write.parent / PICTURE).write_text(picture(rooms))


if __name__ == "__main__":
    main(sys.argv[1:])
