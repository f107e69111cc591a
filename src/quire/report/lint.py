"""The report of checks: findings, worst first, each with where it is, its rule and what would mend it."""

from typing import IO, TYPE_CHECKING, Any

from quire.report.page import open_console, print_lines
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["lint_record", "render_findings_table", "render_lint_table"]

_ORDER = ("error", "warning", "info")
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "unknown": "magenta"}
_LABELS = 16  # columns: how bad it is, and what it is about
_NAMES_SHOWN = 6
_NOUNS = {"error": "error", "warning": "warning", "info": "note"}


def lint_record(findings: Any, *, source: str, profile: str, checks: Any) -> dict[str, Any]:
    """Return what was found as one plain record.

    `findings` has the fields of :class:`quire.paging.lint.Findings`, `checks` those of a VMCS's checks, or is None.
    """
    kept = sorted(findings.kept, key=lambda one: _ORDER.index(one.severity.value))
    return {
        "source": source,
        "profile": profile,
        "findings": [
            {
                "severity": one.severity.value,
                "subject": one.subject,
                "rule": one.rule,
                "section": one.section,
                "start": None if one.start is None else f"{one.start:#x}",
                "end": None if one.end is None else f"{one.end:#x}",
                "entry": None if one.entry is None else f"{one.entry:#x}",
                "count": one.count,
                "text": one.text,
                "fix": one.fix,
            }
            for one in kept
        ],
        "totals": {severity.value: count for severity, count in findings.totals.items()},
        "left_out": findings.left_out,
        "unchecked": [] if checks is None else checks.want_memory,
        "cannot_know": []
        if checks is None
        else [
            {"rule": one.rule, "section": one.section, "text": one.text, "without": one.without}
            for one in checks.cannot_know
        ],
        "not_given": [] if checks is None else checks.not_given,
    }


def render_lint_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write the findings, then one line that sums them up."""
    render_findings_table(record, file)
    from rich.text import Text

    print_lines(open_console(file), Text(_summary(cleaned(record)), "bold"))


def render_findings_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write the findings, and what could not be checked."""
    record = cleaned(record)
    from rich.table import Table
    from rich.text import Text

    table = Table.grid()
    table.add_column(width=_LABELS, no_wrap=True)
    table.add_column(overflow="fold")
    for one in record["findings"]:
        table.add_row(_label(one["severity"], one["subject"]), Text(f"{one['rule']}: {one['text']}"))
        details = [place] if (place := _place(one)) else []
        table.add_row("", Text(", ".join([*details, one["section"]])))
        table.add_row("", Text(f"fix: {one['fix']}", "dim"))
    for one in record["cannot_know"]:
        table.add_row(_label("unknown", "VMCS"), Text(f"{one['rule']}: {one['text']}"))
        table.add_row("", Text(f"cannot know without {one['without']}, {one['section']}"))
    parts: list[object] = [table] if table.row_count else []
    if record["unchecked"]:
        names = ", ".join(record["unchecked"])
        parts.append(Text(f"not checked, for want of the memory that the VMCS points to: {names}", "dim"))
    if record["not_given"]:
        parts.append(Text(f"not given, so not checked: {_some(record['not_given'])}", "dim"))
    print_lines(open_console(file), *parts)


def _label(severity: str, subject: str) -> "Text":
    from rich.text import Text

    return Text.assemble((f"{severity:<9}", _STYLES[severity]), (subject, "bold"))


def _some(names: list[str]) -> str:
    """Return the first of many names, and how many there are besides."""
    left = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (
        f" and {left} more fields (--json lists them)" if left > 0 else ""
    )


def _place(one: dict[str, Any]) -> str:
    words = []
    if one["start"] is not None:
        last = int(one["end"], 16) - 1
        words.append(f"{int(one['start'], 16):#018x} to {last:#018x}")
    if one["entry"] is not None:
        words.append(
            f"{one['count']} entries from {one['entry']}" if one["count"] > 1 else f"entry at {one['entry']}"
        )
    return ", ".join(words)


def _summary(record: dict[str, Any]) -> str:
    counts = [f"{count} {_NOUNS[name]}{'s' * (count != 1)}" for name, count in record["totals"].items()]
    left = f"; {record['left_out']} of them not shown (--limit)" if record["left_out"] else ""
    return f"{', '.join(counts)} in {record['source']}, {record['profile']}{left}"
