"""Names from outside are data: no report hands a terminal an order, no renderer takes them for its own markup."""

import contextlib
import io
import unicodedata
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
import test_report
import test_report_compare
import test_report_tlb
from hypothesis import given
from hypothesis import strategies as st

from quire.report import render_compare_table, render_table
from quire.report.chart import compare_chart
from quire.report.check import render_check_table, render_junit
from quire.report.heat_map import heat_map
from quire.report.shown import brief, cleaned, shown, shown_lines
from quire.report.tlb import render_tlb

#: What a hostile file name, symbol or argument may contain: each kind of order, and each markup that a renderer knows.
HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07", "\x9b2J", "\r\x08\x7f", "a\nb\u2028c", "\u202egnp.exe\u2066", "[/i]", "[red]x[/]",
    r"$\frac$", "$x^2$", "<script>&amp;", "\udcff", "\ufeff",
)  # fmt: skip


def is_order(character: str) -> bool:
    """Whether a terminal or a reader of text would act on the character, by Unicode's own classes."""
    bidirectional = unicodedata.bidirectional(character)
    return character != "\n" and (
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or bidirectional in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    )


@given(st.text())
def test_what_is_shown_has_no_orders_and_loses_nothing_else(text: str) -> None:
    assert not any(map(is_order, shown(text))) and "\n" not in shown(text)
    assert shown_lines(text).count("\n") == text.count("\n")
    if not any(map(is_order, text)) and text.isascii() and "\n" not in text:
        assert shown(text) == text
    assert shown(shown(text)) == shown(text)


def test_how_it_is_shown() -> None:
    assert shown("\x1b[31m\x9b\u202e\n") == r"\x1b[31m\x9b\u202e\x0a"
    assert brief("a value: " + "9" * 5000) == f"a value: {'9' * 150}...{'9' * 150}"
    assert brief("word " * 1000) == "word " * 1000
    record = {"a\x1b": ["\x07", {"detail": "1\n2\x1b"}], "number": 5}
    assert cleaned(record) == {r"a\x1b": [r"\x07", {"detail": "1\n2\\x1b"}], "number": 5}


def with_name(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {**record, "program": {**record["program"], "argv": [name]}}


def _checked(name: str) -> dict[str, Any]:
    case = {
        "case": name,
        "outcome": "failed",
        "compared": 1,
        "different": 1,
        "detail": f"{name}\nx",
        "seconds": 0.0,
    }
    suite = {
        "suite": name,
        "oracle": name,
        "compared": 1,
        "different": 1,
        "deviations": {name: 1},
        "cases": [case],
    }
    return {"seed": 0, "whole": False, "suites": [suite]}


#: Every renderer of text that has a name of the user's in it, with what it takes.
TEXTS: dict[str, tuple[Callable[..., None], Callable[[str], dict[str, Any]]]] = {
    "run": (render_table, lambda name: with_name(test_report.RECORD, name)),
    "compare": (render_compare_table, lambda name: with_name(test_report_compare.comparison(), name)),
    "tlb": (render_tlb, lambda name: with_name(test_report_tlb.RECORD, name)),
    "check": (render_check_table, _checked),
}
PICTURES: dict[str, Callable[[str], bytes]] = {
    "compare": lambda name: compare_chart(with_name(test_report_compare.comparison(), name)),
    "heat map": lambda name: heat_map(with_name(test_report_tlb.RECORD, name)),
    "junit": lambda name: render_junit(_checked(name)).encode(),
}


class Terminal(io.StringIO):
    """A terminal, so that rich colours and interprets as for a person."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("name", HOSTILE)
def test_tables_show_names_as_they_are(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "dumb")
    render, record = TEXTS[kind]
    file = Terminal()
    with contextlib.redirect_stdout(file):
        render(record(f"./{name}/program"), file)
    text = file.getvalue()
    assert not any(map(is_order, text))
    assert shown(f"./{name}/program") in text


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_and_xml_stay_what_they_are(kind: str, name: str) -> None:
    picture = PICTURES[kind](f"./{name}/program")
    text = "".join(ElementTree.fromstring(picture).itertext()) + picture.decode()
    assert not any(map(is_order, text.replace("\t", "")))
    if kind != "junit":
        assert shown(f"./{name}/program") in text
