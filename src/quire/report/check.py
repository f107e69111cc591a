"""The report of conformance suites: agreement a suite and oracle, as a table, JSON or JUnit XML.

Takes results that have the fields of :class:`quire.testing.CaseResult`, by name; knows nothing of the model.
"""

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any
from xml.etree import ElementTree

from quire.report.page import PAGE_WIDTH, open_console
from quire.report.quantity import format_count
from quire.report.shown import cleaned

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["check_record", "render_check_table", "render_junit"]

_COLOURS = {"passed": "green", "failed": "red", "error": "red", "skipped": "yellow"}


def check_record(results: Iterable[Any], *, seed: int, whole: bool) -> dict[str, Any]:
    """Return all results as one plain record: suites in order, each with its totals and its cases."""
    suites: dict[str, dict[str, Any]] = {}
    for result in results:
        suite = suites.setdefault(result.suite, _blank(result.suite, result.oracle))
        tally = result.tally
        suite["compared"] += tally.compared
        suite["different"] += tally.different
        for name, count in tally.deviations.items():
            suite["deviations"][name] = suite["deviations"].get(name, 0) + count
        suite["cases"].append(
            {
                "case": result.case,
                "outcome": result.outcome.value,
                "compared": tally.compared,
                "different": tally.different,
                "detail": result.detail,
                "seconds": round(result.seconds, 3),
            }
        )
    return {"seed": seed, "whole": whole, "suites": list(suites.values())}


def _blank(suite: str, oracle: str) -> dict[str, Any]:
    return {"suite": suite, "oracle": oracle, "compared": 0, "different": 0, "deviations": {}, "cases": []}


def render_check_table(record: dict[str, Any], file: IO[str]) -> None:
    """Write one line a suite, then what is wrong case by case, then which known deviations were met."""
    record = cleaned(record)
    from rich.table import Table
    from rich.text import Text

    console = open_console(file, PAGE_WIDTH)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("suite", "oracle"):
        table.add_column(name, no_wrap=True)
    for name in ("cases", "compared", "agree", "deviate", "differ", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for suite in record["suites"]:
        table.add_row(*_row(suite))
    console.print(table)
    for suite in record["suites"]:
        for case in suite["cases"]:
            if case["outcome"] in ("failed", "error"):
                title = f"\n{suite['suite']}/{case['case']}"
                console.print(Text.assemble((title, "bold"), ": ", (case["outcome"], "red")))
                console.print(case["detail"], markup=False)
        for name, count in suite["deviations"].items():
            console.print(
                f"\n{suite['suite']}: {format_count(count)} of {suite['oracle']}: {name}", markup=False
            )


def _row(suite: dict[str, Any]) -> "list[Text]":
    from rich.text import Text

    cases = suite["cases"]
    deviating = sum(suite["deviations"].values())
    outcomes = [case["outcome"] for case in cases]
    worst = next(one for one in ("error", "failed", "skipped", "passed") if one in outcomes)
    words = Text(worst, _COLOURS[worst])
    if worst == "skipped":
        words.append(f": {next(case['detail'] for case in cases if case['outcome'] == 'skipped')}", "default")
    cells = (
        suite["suite"],
        suite["oracle"],
        str(len(cases)),
        format_count(suite["compared"]),
        format_count(suite["compared"] - suite["different"] - deviating),
        format_count(deviating),
        format_count(suite["different"]),
        f"{sum(case['seconds'] for case in cases):.1f} s",
    )
    return [*map(Text, cells), words]


def render_junit(record: dict[str, Any]) -> str:
    """Return the record as JUnit XML, which continuous-integration servers read."""
    record = cleaned(record)
    root = ElementTree.Element("testsuites", name="quire check")
    for suite in record["suites"]:
        outcomes = [case["outcome"] for case in suite["cases"]]
        node = ElementTree.SubElement(
            root,
            "testsuite",
            name=suite["suite"],
            tests=str(len(outcomes)),
            failures=str(outcomes.count("failed")),
            errors=str(outcomes.count("error")),
            skipped=str(outcomes.count("skipped")),
        )
        for case in suite["cases"]:
            leaf = ElementTree.SubElement(
                node, "testcase", name=case["case"], classname=suite["suite"], time=f"{case['seconds']:.3f}"
            )
            tag = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(case["outcome"])
            if tag:
                first = case["detail"].splitlines()[0] if case["detail"] else case["outcome"]
                ElementTree.SubElement(leaf, tag, message=first).text = case["detail"]
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
