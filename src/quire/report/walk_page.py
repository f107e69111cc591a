"""A walk as a page for a browser: one file without script and without anything from the network.

It has what the report has, in the same words: the picture, the references as a table, the rule, who is to blame, how
it ended, the widths with which it would be another, and what remains.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from quire.report.picture import ALARM, BY_NIGHT, INK, MUTED, PAPER
from quire.report.shown import cleaned
from quire.report.walk import setting_words, walk_circumstances, walk_facts, walk_title
from quire.report.walk_grid import Cell, CellState, walk_grid
from quire.report.walk_picture import walk_picture

__all__ = ["walk_page"]

_COLOURS = {"ink": INK, "paper": PAPER, "muted": MUTED, "alarm": ALARM}
_STYLE = """
body { color: var(--ink); background: var(--paper); font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
p.under { color: var(--muted) }
svg { max-width: 100%; height: auto }
div.wide { overflow-x: auto }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem .7rem .2rem 0; vertical-align: top }
thead th { border-bottom: 1px solid var(--muted) } td.n { text-align: right }
code, td.code { font-family: ui-monospace, monospace; white-space: nowrap }
tr.ept td.name { padding-left: 1.2rem } tr.wrong td, dd.wrong { color: var(--alarm); font-weight: 600 }
dt { font-weight: 600 } dd { margin: 0 0 .5rem 0 }
"""
_COLUMNS = ("#", "entry of", "index", "gpa", "address", "holds", "allows", "bits", "remark")


def walk_page(record: Mapping[str, Any]) -> bytes:
    """Return the page of the record of `quire walk`; the same record gives the same bytes."""
    picture = walk_picture(record).decode()
    record = cleaned(record)
    title = escape(walk_title(record))
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_colours()}{_STYLE}</style></head><body>",
        f'<h1>{title}</h1><p class="under">{escape(walk_circumstances(record))}</p>',
        f'<div class="wide">{picture[picture.index("<svg") :]}</div>',
        "<h2>How it ended</h2>",
        _facts(record),
        "<h2>References, in the order of the walk</h2>",
        _references(record["walk"]),
        *(_trial(trial) for trial in record.get("what_if", [])),
        "</body></html>\n",
    ]
    return "\n".join(parts).encode()


def _colours() -> str:
    """Return the colours of the picture, as the page names them, by day and by night."""
    day = "; ".join(f"--{name}: {colour}" for name, colour in _COLOURS.items())
    night = "; ".join(f"--{name}: {BY_NIGHT[colour]}" for name, colour in _COLOURS.items())
    return (
        f":root {{ color-scheme: light dark; {day} }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {night} }} }}"
    )


def _facts(record: dict[str, Any]) -> str:
    refused = record["walk"]["result"] is None
    lines = []
    for name, words in walk_facts(record):
        wrong = ' class="wrong"' if name == "because" or (name == "result" and refused) else ""
        lines.append(f"<dt>{name}</dt><dd{wrong}>{escape(words)}</dd>")
    return f"<dl>{''.join(lines)}</dl>"


def _references(walk: Mapping[str, Any]) -> str:
    if not walk["references"]:
        return "<p>No entry was read.</p>"
    read = {cell.reference["number"]: cell for _, _, cell in walk_grid(walk).cells() if cell.reference}
    rows = "\n".join(_row(ref, read[ref["number"]]) for ref in walk["references"])
    return f'<div class="wide"><table>{_head(_COLUMNS)}<tbody>\n{rows}\n</tbody></table></div>'


def _head(names: Iterable[str]) -> str:
    return f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr></thead>"


def _row(ref: Mapping[str, Any], cell: Cell) -> str:
    words = [CellState.STOPPED.value] if cell.ends else []
    words += [f"to blame: {cell.words}"] if cell.words else []
    words += [f"sets {ref['sets']}"] if ref["sets"] else []
    cells = (
        ("n", ref["number"]),
        ("name", ref["table"]),
        ("n", ref["index"]),
        ("code", ref["gpa"] or "" if ref["dimension"] == "guest" else ""),
        ("code", ref["hpa"]),
        ("code", ref["entry"]),
        ("code", ref["rights"]),
        ("", ref["bits"] or "not present"),
        ("", "; ".join(words)),
    )
    kind = ref["dimension"] + (" wrong" if cell.ends or cell.words else "")
    return f'<tr class="{kind}">{"".join(_data(*one) for one in cells)}</tr>'


def _data(kind: str, value: Any) -> str:
    shape = f' class="{kind}"' if kind else ""
    return f"<td{shape}>{escape(str(value))}</td>"


def _trial(trial: Mapping[str, Any]) -> str:
    """Return what one what-if changes."""
    settings = setting_words(trial["set"])
    heading = f"<h2>What if {escape(settings)}</h2>"
    if not trial["changed"]:
        return f"{heading}<p>Nothing changes.</p>"
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{_data('', change['before'])}{_data('', change['after'])}</tr>"
        for name, change in trial["changed"].items()
    )
    return f"{heading}<table>{_head(('', 'before', 'after'))}<tbody>{rows}</tbody></table>"
