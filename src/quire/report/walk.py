"""A walk for people: each reference numbered, with what its entry says and allows, the rule, and the outcome.

Takes the record that :func:`quire.paging.explanation.explain` makes (docs/reference/walk.md has its fields); knows
nothing of the model.
"""

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from quire.report.page import open_console, print_lines
from quire.report.quantity import format_size
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "render_walk_table",
    "setting_words",
    "walk_circumstances",
    "walk_facts",
    "walk_lines",
    "walk_title",
]

_ALWAYS_SHOWN = ("nxe", "wp", "smep", "smap", "ac")
#: What the profile decides, and what is as after reset: shown by --json.
_OF_PROFILE = ("page_1g", "ept_execute_only", "ept_2m", "ept_1g", "advanced", "pat")
_DIMENSION_STYLES = {"guest": "", "ept": "cyan"}


def walk_lines(walk: dict[str, Any]) -> list[str]:
    """Return one aligned line a reference and a last line with the outcome."""
    lines = []
    for ref in walk["references"]:
        name = ref["table"] if ref["dimension"] == "guest" else "  " + ref["table"]
        hpa, bits = int(ref["hpa"], 16), ref["bits"] or "not present"
        lines.append(
            f"{ref['number']:>2}  {name:<12} [{ref['index']:>3}]  at hpa {hpa:#012x}  {ref['entry']}  {bits}"
        )
    return [*lines, f"    -> {_outcome(walk)}"]


def _outcome(walk: dict[str, Any]) -> str:
    """Say in one line what became of the access."""
    result, fault = walk["result"], walk["fault"]
    if result is not None:
        return _translation(result)
    text: str = fault["name"]
    if fault["table"]:
        text += f" at the {fault['table']}"
    if fault["code"] is not None:
        text += f", {'error code' if fault['cr2'] else 'qualification'} {fault['code']}"
        text += f" ({fault['code_bits']})" if fault["code_bits"] else ""
    text += f": {fault['words']}"
    text += f"; gpa {fault['gpa']}" if fault["gpa"] else ""
    return text + (f"; CR2 = {fault['cr2']}" if fault["cr2"] else "")


def _translation(result: dict[str, Any]) -> str:
    page = f" in a page of {format_size(result['guest_page'])}" if result["guest_page"] else ""
    if result["host_page"] is None:
        text = f"physical address {result['hpa']}{page}"
    else:
        text = f"gpa {result['gpa']}{page} -> hpa {result['hpa']} in a page of {format_size(result['host_page'])}"
    notes = [f"allowed {result['rights']}", f"memory type {result['memory_type']}"]
    notes += ["global"] if result["global"] else []
    notes += [result["note"]] if result.get("note") else []
    return f"{text}; {', '.join(notes)}"


def render_walk_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write the record of ``quire walk``: what was asked, the references, the rule, the outcome, what changes."""
    record = cleaned(record)
    from rich.text import Text

    console = open_console(file)
    walk = record["walk"]
    parts: list[object] = [Text(walk_title(record), "bold"), Text(f"  {walk_circumstances(record)}", "dim")]
    if walk["references"]:
        parts.append(_references(walk))
    for name, words in walk_facts(record):
        parts.append(Text(f"{name:<7} {words}", _style(name, walk)))
    for trial in record.get("what_if", []):
        parts += _trial(trial)
    print_lines(console, *parts)


def walk_facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the walk came to, each with the word that begins its line: rule, because, result and others."""
    walk = record["walk"]
    rule = walk["rule"]
    facts = [("rule", f"{rule['name']} ({rule['section']}): {rule['text']}")]
    if walk["culprits"]:
        facts.append(("because", _culprits(walk)))
    if walk["fault"] and walk["fault"].get("note"):
        facts.append(("note", walk["fault"]["note"]))
    sets = [f"{ref['sets']} in {ref['number']}" for ref in walk["references"] if ref["sets"]]
    if sets:
        facts.append(("flags", f"set: {', '.join(sets)}"))
    facts.append(("result", _outcome(walk)))
    facts += [("width", _other_width(walk, other)) for other in walk.get("other_widths", [])]
    if walk.get("likely_c_bit") is not None:
        number = walk["likely_c_bit"]
        facts.append(
            ("width", f"bit {number} may be AMD's C-bit, which is no address bit (--c-bit {number})")
        )
    return facts + [("remains", one) for one in record.get("remains", [])]


def _style(name: str, walk: dict[str, Any]) -> str:
    if name == "result":
        return "green" if walk["result"] else "red"
    return "yellow" if name in ("width", "remains") else ""


def _culprits(walk: dict[str, Any]) -> str:
    """Name the entries to blame by the numbers of their references."""
    return ", ".join(f"{one['words']} in {one['number']}, the {one['table']}" for one in walk["culprits"])


def _other_width(walk: dict[str, Any], other: dict[str, Any]) -> str:
    span = f"{other['from']}" if other["from"] == other["to"] else f"{other['from']} to {other['to']}"
    return f"the verdict turns on MAXPHYADDR, here {walk['maxphyaddr']}: with {span} it is {other['outcome']}"


def walk_title(record: dict[str, Any]) -> str:
    """Return what was asked: the access, the address, the paging, the processor."""
    walk = record["walk"]
    if walk["gva"] is None:
        return f"{walk['access']} of gpa {walk['gpa']}: {walk['ept_levels']}-level EPT alone, {record['profile']}"
    who = "user" if walk["user"] else "supervisor"
    under = f" under {walk['ept_levels']}-level EPT" if walk["ept_levels"] else ""
    return f"{who} {walk['access']} of gva {walk['gva']}: {walk['paging']}{under}, {record['profile']}"


def walk_circumstances(record: dict[str, Any]) -> str:
    """Return the roots, the mode bits that matter, and where the tables come from."""
    walk = record["walk"]
    words = [f"metadata of {walk['metadata']} masked by LAM"] if walk.get("metadata") else []
    words += [f"cr3 {walk['cr3']}"] if walk["gva"] is not None else []
    words += [f"eptp {walk['eptp']}"] if walk["eptp"] else []
    always = _ALWAYS_SHOWN if walk["gva"] is not None else ()
    shown = {
        name: value
        for name, value in walk["settings"].items()
        if name in always or (value and name not in (*_OF_PROFILE, *_ALWAYS_SHOWN))
    }
    words += [setting_words(shown)] if shown else []
    return f"{' '.join(words)}; {record['source']}"


def setting_words(settings: Mapping[str, int]) -> str:
    """Return mode bits as people write them: ``wp=0 pkru=0xc``."""
    return " ".join(
        f"{name}={value:#x}" if value > 1 else f"{name}={value}" for name, value in settings.items()
    )


def _references(walk: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    ept = walk["ept_levels"] is not None
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("entry of", "index", *(("gpa", "hpa") if ept else ("address",)), "holds", "allows"):
        table.add_column(name, no_wrap=True, justify="right" if name == "index" else "left")
    table.add_column("bits", overflow="fold")
    for ref in walk["references"]:
        host = ref["dimension"] == "ept"
        cells = [str(ref["number"]), ("  " if host else "") + ref["table"], str(ref["index"])]
        if ept:
            cells.append("" if host else ref["gpa"])
        bits = ref["bits"] or "not present"
        cells += [ref["hpa"], ref["entry"], ref["rights"], bits]
        table.add_row(*cells, style=_DIMENSION_STYLES[ref["dimension"]])
    return table


def _trial(trial: dict[str, Any]) -> "list[Table | Text]":
    """Return what one what-if says: its settings, and each fact that changes."""
    from rich.table import Table
    from rich.text import Text

    settings = setting_words(trial["set"])
    if not trial["changed"]:
        return [Text(f"what if {settings}: nothing changes")]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for name, change in trial["changed"].items():
        table.add_row(f"  {name}", Text(change["before"]), "->", Text(change["after"]))
    return [Text(f"what if {settings}:", "bold"), table]
