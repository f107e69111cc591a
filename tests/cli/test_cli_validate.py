"""``quire validate``: its tables, files, exit status and errors. Its examples run with those of the other verbs."""

import io
import json
from pathlib import Path

import pytest
from commands import quire, refused

from quire.machine import MMUS
from quire.report.validation import render_crossover, render_ladder
from quire.study import references


def test_references(tmp_path: Path) -> None:
    outcome = quire(tmp_path, "validate", "references", "--json", "-o", "found.json")
    assert (outcome.status, outcome.stdout) == (0, "")
    assert "42 of 42 counts equal the published ones" in quire(tmp_path, "validate", "references").stdout
    record = json.loads((tmp_path / "found.json").read_text())
    assert record["equal"] == record["total"] == len(record["rows"]) == 42


def test_a_count_that_differs_is_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = references.Published(23, "made up")
    usual = references.published
    nested = references.Dimension(4, 1)
    monkeypatch.setattr(references, "published", lambda g, h: wrong if g == h == nested else usual(g, h))
    outcome = quire(tmp_path, "validate", "references")
    assert outcome.status == 1
    assert "24 [23]" in outcome.stdout
    assert "41 of 42 counts equal" in outcome.stdout


def test_ladder(tmp_path: Path) -> None:
    outcome = quire(
        *(
            tmp_path,
            "validate",
            "ladder",
            "--guest",
            "256M",
            "--reads",
            "20000",
            "--json",
            "-o",
            "found.json",
        ),
    )
    assert outcome.status == 0
    record = json.loads((tmp_path / "found.json").read_text())
    shown = io.StringIO()
    render_ladder(record, shown)
    assert "24 references without a cache, and fewer on every rung" in shown.getvalue()
    assert record["rows"][0]["references_per_walk"] == 24
    assert record["falls"] and len({row["walks"] for row in record["rows"]}) == 1
    error = refused(tmp_path, "validate", "ladder", "--profile", "ideal")
    assert error == (
        "quire validate ladder: Profile ideal has no walk caches to climb: choose another, see quire profiles "
        "(see quire validate ladder --help)"
    )
    error = refused(tmp_path, "validate", "ladder", "--guest", "4097K")
    assert error.startswith("quire validate ladder: A guest of 0x400400 bytes has no 2 MiB pages")


def test_crossover(tmp_path: Path) -> None:
    outcome = quire(
        tmp_path, "validate", "crossover", "--updates", "0,20", "--json", "-o", "a.json", "--plot", "a.svg"
    )
    assert outcome.status == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["mmus"] == list(MMUS)
    assert [row["updates"] for row in record["rows"]] == [0, 20]
    shown = io.StringIO()
    render_crossover(record, shown)
    assert "Closed formula: shadow is better while" in shown.getvalue()
    assert record["crossing"]["sentence"] in " ".join(shown.getvalue().split())
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")


def test_what_is_refused(tmp_path: Path) -> None:
    for words, said in (
        (("--updates", "1,x"), "'x' is no number of updates: give a list such as 0,10,50"),
        (("--updates", "5"), "A sweep over [5] updates shows no line: give two or more, ascending"),
        (("--updates", "0,5000"), "5000 updates per 1000 reads cannot be swept: give 0 to 1000"),
        (("--costs", "sky.toml"), "Cost profile 'sky.toml' cannot be read"),
        (("-o", "-", "--plot", "-"), "--output and --plot are all -"),
        (("--plot", "none/a.svg"), "cannot write --plot to 'none/a.svg'"),
    ):
        line = refused(tmp_path, "validate", "crossover", *words)
        assert line.startswith("quire validate crossover: ")
        assert said in line


def test_hardware_refuses_what_it_cannot_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = " (see quire validate hardware --help)"
    for words, said in (
        (
            ("--profile", "zen4", "--costs", "zen3"),
            "Costs zen3 are for zen3, not for profile zen4: leave --costs out for zen4's own, or give --profile zen3",
        ),
        (
            ("--profile", "zen4", "--size", "3M"),
            "A size of 3145728 bytes is none to measure: give a power of two from 16M on",
        ),
        (
            ("--profile", "zen4", "--programs", "chase,quicksort"),
            "No program is called 'quicksort': there is gups, chase, btree, bfs, join",
        ),
    ):
        assert refused(tmp_path, "validate", "hardware", *words) == f"quire validate hardware: {said}{usage}"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(tmp_path, "validate", "hardware", "--profile", "zen4") == (
        "quire validate hardware: There is no C compiler here, and the programs are C: install one of cc, gcc, clang"
        + usage
    )
