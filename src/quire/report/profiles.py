"""The reports of `quire profiles`: all profiles in a table; one with its structures and where the numbers come from.

Takes plain records of profiles; knows nothing of the model.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from quire.report.sheet import Sheet, open_sheet

__all__ = ["render_profile", "render_profiles"]

_ASSUMED = "*"  # after a number that nobody published
_UNBOUNDED = "unbounded"
_NOTHING = "-"

Record = Mapping[str, Any]


def render_profiles(listed: dict[str, Iterable[Record]], file: IO[str]) -> None:
    """Write one line for each of the ``profiles``."""
    rows = [
        [record["name"], record["title"], _held(record, 1), _held(record, 2), _walk_caches(record)]
        for record in listed["profiles"]
    ]
    with open_sheet(file) as sheet:
        names = ("profile", "processor", "L1 loads", "L2 loads", "walk caches")
        sheet.table([(name, "left") for name in names], rows)


def _held(record: Record, level: int) -> str:
    """Return the entries that loads look up at `level`, by page size."""
    found = [tlb for tlb in record["tlbs"] if tlb["level"] == level and "load" in tlb["sides"]]
    return ", ".join(f"{_entries(tlb)} {'/'.join(tlb['pages'])}" for tlb in found) or _NOTHING


def _walk_caches(record: Record) -> str:
    mappings = [cache["mappings"] for cache in record["walk_caches"]]
    counts = (
        f"{mappings.count(kind)} {word}" for kind, word in (("linear", "linear"), ("guest-physical", "EPT"))
    )
    return ", ".join(counts) if mappings else _NOTHING


def _entries(structure: Record) -> str:
    return _UNBOUNDED if structure["entries"] is None else str(structure["entries"])


def render_profile(record: Record, file: IO[str]) -> None:
    """Write TLBs and walk caches of one profile, then the source of every number."""
    with open_sheet(file) as sheet:
        sheet.title(f"{record['name']}: {record['title']}")
        for name, value in _facts(record):
            sheet.text(f"  {name:<20}{value}")
        sheet.text("")
        _structures(sheet, "TLBs", record["tlbs"], ("level", "sides", "pages"))
        _structures(sheet, "walk caches", record["walk_caches"], ("mappings", "holds"))
        if any(one["assumed"] for one in (*record["tlbs"], *record["walk_caches"])):
            sheet.text(f"{_ASSUMED} an assumption: nobody published it, or not of this processor")
            sheet.text("")
        sheet.title("where the numbers come from")
        sheet.bullets(_sources(record))
        if record["notes"]:
            sheet.text("")
            sheet.title("what to know besides")
            sheet.bullets(record["notes"])


def _facts(record: Record) -> list[tuple[str, str]]:
    facts = [
        ("vendor", record["vendor"]),
        ("physical address", _widths(record)),
        ("linear address", f"{record['linear_bits']} bits"),
        ("1 GiB pages", "yes" if record["page_1g"] else "no"),
        ("page walks at once", str(record["walkers"])),
    ]
    return [*facts, ("also called", ", ".join(record["aliases"]))] if record["aliases"] else facts


def _structures(sheet: Sheet, title: str, structures: Sequence[Record], keys: tuple[str, ...]) -> None:
    """Write one table of structures: `keys` say what each is for, the rest is geometry."""
    sheet.title(title)
    if not structures:
        sheet.text("  none")
    else:
        geometry = ("entries", "ways", "sets", "replacement")
        columns = [("name", "left"), *((key, "left") for key in keys)]
        columns += [(key, "left" if key == "replacement" else "right") for key in geometry]
        sheet.table(columns, ([one["name"], *_cells(one, (*keys, *geometry))] for one in structures))
    sheet.text("")


def _cells(structure: Record, keys: tuple[str, ...]) -> list[str]:
    return [_cell(structure, key) + _ASSUMED * (key in structure["assumed"]) for key in keys]


def _cell(structure: Record, key: str) -> str:
    value = structure[key]
    if key == "entries":
        return _entries(structure)
    if key == "ways" and value is not None and value == structure["entries"]:
        return "full"
    if isinstance(value, list):
        return ", ".join(value)
    return _NOTHING if value is None else str(value)


def _widths(record: Record) -> str:
    others = ", ".join(str(one) for one in record["other_maxphyaddr"])
    return f"{record['maxphyaddr']} bits{f'; other machines of this model have {others}' if others else ''}"


def _sources(record: Record) -> list[str]:
    """Return a sentence for each source, with the names of all that it is the source of."""
    named: dict[str, list[str]] = {}
    for one in (*record["tlbs"], *record["walk_caches"]):
        named.setdefault(one["source"], []).append(one["name"])
    named.setdefault(record["source"], []).append("widths and page walks at once")
    if record["vmx"]["source"]:
        named.setdefault(record["vmx"]["source"], []).append(f"VMX ({', '.join(record['vmx']['known'])})")
    return [f"{', '.join(names)}: {source}" for source, names in named.items()]
