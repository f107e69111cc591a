"""The report of `quire tlb`: how full each structure is, then a line an entry.

Takes the record that docs/reference/tlb.md describes; knows nothing of the model.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from quire.report.quantity import format_count, format_size
from quire.report.sheet import open_sheet
from quire.report.shown import cleaned

__all__ = ["render_tlb"]

Record = Mapping[str, Any]

_NOTHING = "-"
_UNITS = {1 << 12: "4K", 1 << 21: "2M", 1 << 30: "1G"}
#: Of each column its title, and whether it is a number.
_COLUMNS = (
    ("structure", False),
    ("set.way", True),
    ("class", False),
    ("entry", False),
    ("address", True),
    ("-> hpa", True),
    ("tags", False),
    ("rights", False),
    ("type", False),
    ("age", True),
)
_LEGEND = (
    "class: physical is guest-physical; tags: VPID/PCID/EP4TA",
    "rights: read, write, execute, user, global, dirty; age: look-ups since the last use",
)
_CLASSES = {"guest-physical": "physical"}  # a row is to fit a terminal of 100 columns


def render_tlb(record: Record, file: IO[str]) -> None:
    """Write the structures and the entries of `record` to `file`."""
    record = cleaned(record)
    with open_sheet(file) as sheet:
        sheet.title(_title(record))
        if not record["ended"]["reached"]:
            sheet.alarm(f"  the program ended first: {record['ended']['at']} was never reached")
        if not record["structures"]:
            sheet.text("  the profile has no TLB and no walk cache")
            return
        columns = (
            ("structure", "left"),
            ("used", "right"),
            ("of", "right"),
            ("by page size or kind", "left"),
        )
        sheet.table(columns, [_summary(one) for one in record["structures"]])
        sheet.text("")
        entries = record["entries"]
        sheet.title(_count(record))
        if entries:
            head, *lines = _aligned([_entry(one) for one in entries])
            sheet.title(head)
            sheet.text("\n".join(lines))
            sheet.text("\n".join(_LEGEND))


def _title(record: Record) -> str:
    config, ended = record["config"], record["ended"]
    pages = format_size(config["guest_page"]).replace(" ", "")
    if config["host_page"]:
        pages += " x " + format_size(config["host_page"]).replace(" ", "")
    name = record["program"]["argv"][0]
    when = ended["at"] if ended["reached"] else "the end of the program"
    return f"quire tlb: {name} under {config['mmu']}, {pages} pages, {config['profile']}; {when}"


def _summary(one: Record) -> list[str]:
    kinds = ", ".join(f"{kind} {format_count(count)}" for kind, count in one["by_kind"].items())
    capacity = "unbounded" if one["capacity"] is None else format_count(one["capacity"])
    return [one["name"], format_count(one["used"]), capacity, kinds or _NOTHING]


def _count(record: Record) -> str:
    shown, matching = len(record["entries"]), record["matching"]
    held = sum(one["used"] for one in record["structures"])
    if shown < matching:
        of = f"{format_count(matching)} entries"
        of += f" that match, of {format_count(held)}" if matching < held else ""
        return f"the first {format_count(shown)} of {of}" if shown else f"{of}, not listed"
    return (
        f"{format_count(shown)} of {format_count(held)} entries match" if shown < held else f"{held} entries"
    )


def _entry(entry: Record) -> list[str]:
    page = entry["kind"] == "page"
    tags = (_tag(entry["vpid"]), _tag(entry["pcid"]), _tag(entry["ep4ta"], hexadecimal=True))
    return [
        entry["structure"],
        _NOTHING if entry["set"] is None else f"{entry['set']}.{entry['way']}",
        _CLASSES.get(entry["class"], entry["class"]),
        f"{_UNITS[entry['size']]} page" if page else entry["kind"],
        f"{entry['address']:#x}",
        _NOTHING if entry["hpa"] is None else f"{entry['hpa']:#x}",
        "/".join(tags),
        _rights(entry),
        entry["memory_type"] or _NOTHING,
        format_count(entry["age"]),
    ]


def _tag(tag: int | None, *, hexadecimal: bool = False) -> str:
    if tag is None:
        return _NOTHING
    return f"{tag:#x}" if hexadecimal else str(tag)


def _rights(entry: Record) -> str:
    """Return what both dimensions allow, a letter each."""
    if entry["RW"] is None:
        return _NOTHING
    executable = entry["ept_XU"] if entry["US"] else entry["ept_X"]
    allowed = {
        "R": entry["ept_R"],
        "W": entry["RW"] and entry["ept_W"],
        "X": executable and not entry["XD"],
        "U": entry["US"],
        "G": entry["global"],
        "D": entry["dirty"],
    }
    return "".join(letter if has else _NOTHING for letter, has in allowed.items())


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Return a line of titles and a line a row; thousands of rows, so without a layout engine."""
    lines = [[title for title, _ in _COLUMNS], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, (_, number) in zip(line, widths, _COLUMNS, strict=True)
        )
        yield " ".join(cells).rstrip()
