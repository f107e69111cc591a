"""Reports of comparisons and validations: what tables show, and that the same record gives the same bytes."""

import copy
import io
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from quire.report import format_cycles, render_compare_table, render_json
from quire.report.chart import compare_chart, crossover_chart
from quire.report.columns import compare_parquet
from quire.report.validation import render_crossover, render_references

WIDTH = 110


def row(name: str, exits: dict[str, int], over: float | None, costs: dict[str, int]) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "execution": 1_000_000,
        "tlb_l2": 0,
        "walk_guest": {"l1": 400, "memory": 100},
        "walk_host": {"l1": 0, "memory": 0},
        "exits": costs,
        "guest_faults": 2000,
        "clearing": 4096,
    }
    parts["total"] = sum(sum(part.values()) if isinstance(part, dict) else part for part in parts.values())
    mmu, pages = name.split()
    return {
        "name": name,
        "profile": "skylake-x",
        "costs": "round",
        "mmu": mmu,
        "guest_page": 4096,
        "host_page": 4096 if "/" in pages else None,
        "outcome": {"status": 0, "stdout_bytes": 3, "stdout_sha256": "ab"},
        "instructions": 1_000_000,
        "exits": {"total": sum(exits.values()), "by_reason": exits},
        "page_faults": 7,
        "tlb": {"l2_hits": 0, "misses": 123_456},
        "walks": {
            "count": 234_567,
            "references": {"guest": 938_268, "host": 0},
            "references_per_walk": 4.0,
        },
        "remote": None,
        "table_bytes": {"guest": 45056, "shadow": 0, "host": 0, "total": 45056},
        "cycles": parts,
        "overhead": {"over_native": over, "over_native_4k": over},
        "bound": {
            "references": {"guest": 4_000_000, "host": 0},
            "references_per_walk": 24.0,
            "cycles": 2 * parts["total"],
            "over_native": over,
        },
    }


def comparison() -> dict[str, Any]:
    many = {"CPUID": 1, "EPT_VIOLATION": 20_000, "HLT": 2, "INVLPG": 3, "RDMSR": 4}
    costly = {"CPUID": 2500, "EPT_VIOLATION": 70_000_000}
    return {
        "schema": 2,
        "program": {"argv": ["prog[red]", "argument"]},
        "config": {"profiles": ["skylake-x"], "from": None, "to": None},
        "rows": [row("native 4K", {"CPUID": 5}, 0.0, {}), row("ept 4K/4K", many, 69.5, costly)],
        "partial": False,
        "differences": [],
        "early": [],
        "verdicts": [
            {
                "profile": "skylake-x",
                "winner": "ept 4K/4K",
                "component": "exits",
                "sentence": "ept 4K/4K takes the cake.",
                "bound_winner": "native 4K",
            }
        ],
        "costs": {
            "round": {
                "events.instruction": {"value": 1.0, "assumption": True, "source": "assumption"},
                "exits.round_trip": {"value": 2000.0, "assumption": False, "source": "published 2009"},
                "exits.work.default": {"value": 100.0, "assumption": True, "source": "assumption"},
            }
        },
        "not_modelled": ["The weather: it is the same everywhere, " + "and everywhere " * 10 + "it rains."],
    }


def crossover(crossing: float | None) -> dict[str, Any]:
    counts = {"walks": 1000, "references": {"guest": 4000, "host": 0}, "exits": {}, "exits_per_update": None}
    busy = counts | {"exits": {"INVLPG": 50, "EXCEPTION_OR_NMI": 100}, "exits_per_update": 3.0}
    return {
        "config": {"costs": "round", "reads": 1000, "pages": 2048, "guest_page": "4K", "host_page": "4K"},
        "mmus": ["native", "ept", "shadow"],
        "rows": [
            {
                "updates": 0,
                "counts": {"native": counts, "ept": counts, "shadow": counts},
                "cycles_per_read": {"native": 10.0, "ept": 100.0, "shadow": 10.0},
            },
            {
                "updates": 50,
                "counts": {"native": counts, "ept": counts, "shadow": busy},
                "cycles_per_read": {"native": 10.0, "ept": 100.0, "shadow": 400.0},
            },
        ],
        "crossing": {
            "measured": crossing,
            "formula": {
                "misses": 1000, "c_1d": 10, "c_2d": 100, "c_exit": 2000, "c_sync": 1000, "updates": 30.0
            },
            "sentence": "shadow and ept cost the same at 11.5 updates per 1000 reads.",
        },
        "formula": "shadow is better while this > that",
        "published": "VMware, 2009",
        "not_modelled": ["The weather."],
    }  # fmt: skip


def table(render: Any, record: dict[str, Any]) -> str:
    file = io.StringIO()
    render(record, file)
    text = file.getvalue()
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())
    return text


def test_the_table_of_a_comparison() -> None:
    text = table(render_compare_table, comparison())
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("quire compare: prog[red]\nskylake-x, costs round\n")
    assert ["native", "4K", "234_567", "4.00", "123_456", "7", "44", "KiB", "-"] in lines
    nested = next(line for line in text.splitlines() if "20_010" in line)
    assert "EPT_VIOLATION 20_000, RDMSR 4, INVLPG 3" in " ".join(text.split())
    assert "ept 4K/4K" in nested
    assert "others 3" in text
    cycles = next(line for line in lines if line[:2] == ["ept", "4K/4K"] and "70.0" in line)
    assert cycles[2:] == [
        *("1.00", "M", "500", "70.0", "M", "2.00", "k", "4.10", "k", "71.0", "M", "+6950.0", "%")
    ]
    assert "EPT walks" not in text  # nobody has any
    assert "ept 4K/4K takes the cake." in text
    assert "2 of the 3 figures of round are assumptions." in text
    titles = next(line for line in text.splitlines() if "vs native" in line).split()
    assert [one for one in titles if one[:2] in ("ex", "wa", "VM")] == ["execution*", "walks", "VM", "exits*"]
    figures = next(line for line in text.splitlines() if line.split()[:1] == ["round"])
    assert figures.split() == ["round", "1*", "2000", "+", "100*"]


def test_the_bound_has_a_table_of_its_own() -> None:
    file = io.StringIO()
    render_compare_table(comparison(), file, bound=True)
    text = file.getvalue()
    lines = text[text.index("upper bound") :].splitlines()
    assert lines[1].split()[1:3] == ["refs/walk", "guest"]
    assert lines[3].split() == ["ept", "4K/4K", "24.00", "4_000_000", "0", "142", "M", "+6950.0", "%"]
    assert "upper bound" not in table(render_compare_table, comparison())


def test_references_by_node_have_a_table_of_their_own() -> None:
    record = comparison()
    for number, row in enumerate(record["rows"]):
        row["remote"] = {"tables": {"local": 10 + number, "remote": 2000}, "data": {"local": 3, "remote": 44}}
    text = table(render_compare_table, record)
    lines = text[text.index("references to other NUMA nodes") :].splitlines()
    assert lines[1].split() == [
        "configuration",
        "tables,",
        "local",
        "tables,",
        "remote",
        "data,",
        "local",
        "data,",
        "remote",
    ]
    assert lines[2].split()[-4:] == ["10", "2_000", "3", "44"]


def test_what_differs_comes_first_and_loud() -> None:
    record = comparison() | {"differences": ["ept 4K/4K ended with status 1, native 4K with 0"]}
    assert table(render_compare_table, record).splitlines()[1].startswith("NOT THE SAME: ept 4K/4K ended")


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in table(render_compare_table, comparison())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    render_compare_table(comparison(), file)
    assert "\x1b[1;32mept 4K/4K takes the cake" in file.getvalue()


def test_json_keeps_the_order_of_keys() -> None:
    record = comparison()
    assert list(json.loads(render_json(record))) == list(record)


def test_parquet_has_a_row_a_configuration_and_fixed_types() -> None:
    from pyarrow import parquet

    record = comparison()
    data = compare_parquet(record)
    assert compare_parquet(copy.deepcopy(record)) == data
    read = parquet.read_table(io.BytesIO(data))
    native, nested = read.to_pylist()
    assert (native["configuration"], native["host_page"], native["cycles_walk_guest"]) == (
        "native 4K",
        None,
        500,
    )
    assert dict(nested["exits_by_reason"])["EPT_VIOLATION"] == 20_000
    assert nested["cycles_total"] == record["rows"][1]["cycles"]["total"]
    assert nested["over_native"] == 69.5
    assert json.loads(read.schema.metadata[b"quire"])["verdicts"] == record["verdicts"]
    assert (native["profile"], native["costs"], native["bound_cycles"]) == (
        "skylake-x",
        "round",
        2 * native["cycles_total"],
    )
    record["rows"] = [record["rows"][0] | {"overhead": {"over_native": None, "over_native_4k": None}}]
    other = parquet.read_table(io.BytesIO(compare_parquet(record)))
    assert other.schema.remove_metadata() == read.schema.remove_metadata()


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_chart_of_a_comparison() -> None:
    record = comparison()
    svg = compare_chart(record)
    assert compare_chart(copy.deepcopy(record)) == svg
    shown = texts(svg)
    title = "prog[red] on skylake-x: pages GUEST/HOST 4K/4K"
    for word in (
        *(title, "skylake-x, costs round", "native 4K", "ept 4K/4K", "predicted cycles"),
        *("1.01 M cycles", "71.0 M cycles, +6950.0 % over native", "VM exits", "execution"),
    ):
        assert word in shown
    root = ElementTree.fromstring(svg)
    assert root.findtext("{http://www.w3.org/2000/svg}title") == title
    assert root.findtext("{http://www.w3.org/2000/svg}desc") == (
        "skylake-x native 4K: 1.01 M cycles. skylake-x ept 4K/4K: 71.0 M cycles, +6950.0 % over native."
    )
    assert b"prefers-color-scheme: dark" in svg and b"bound" not in svg
    assert "EPT walks" not in shown
    assert b"<dc:date>" not in svg
    assert len(svg) < 40_000


def widths(svg: bytes) -> list[float]:
    """Return how wide each bar of a chart is, in the order in which they were drawn."""
    found = re.findall(
        rb'd="M ([0-9.]+) [0-9.]+ \nL ([0-9.]+) [0-9.]+ \nL [0-9. ]+\nL [0-9. ]+\nz\n" clip-path', svg
    )
    return [round(abs(float(b) - float(a)), 2) for a, b in found]


def test_relative_bars_are_as_long_as_each_other_and_the_bound_is_marked() -> None:
    """In cycles the cheap row is an 70th of the dear one; in per cent of its own both take the whole axis."""
    record = comparison()
    absolute, relative = widths(compare_chart(record)), widths(compare_chart(record, relative=True))
    assert len(absolute) == len(relative) == 10  # five components of two rows
    assert sum(absolute[1::2]) > 60 * sum(absolute[::2])
    assert sum(relative[1::2]) == pytest.approx(sum(relative[::2]), abs=0.1)
    assert "100 %" in texts(compare_chart(record, relative=True))
    assert "bound: whole walks" in texts(compare_chart(record, bound=True))


def test_a_panel_for_each_processor() -> None:
    record = comparison()
    other = [one | {"profile": "zen4", "costs": "zen4"} for one in record["rows"]]
    record["rows"] += other
    record["verdicts"] += [record["verdicts"][0] | {"profile": "zen4"}]
    record["config"] = {"profiles": ["skylake-x", "zen4"]}
    shown = texts(compare_chart(record))
    assert "prog[red] on skylake-x, zen4: pages GUEST/HOST 4K/4K" in shown
    assert [shown.count(one) for one in ("skylake-x, costs round", "zen4, costs zen4", "ept 4K/4K")] == [
        1,
        1,
        2,
    ]


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_other_forms(form: str, begins: bytes) -> None:
    made = compare_chart(comparison(), form)
    assert made.startswith(begins)
    assert compare_chart(comparison(), form) == made
    assert b"prog[red] on skylake-x" in made or form == "pdf"  # which keeps it in UTF-16


@pytest.mark.parametrize("crossing", [11.5, None])
def test_the_chart_of_a_crossover(crossing: float | None) -> None:
    svg = crossover_chart(crossover(crossing))
    shown = texts(svg)
    assert {"native", "ept", "shadow", "page-table updates per 1000 reads"} <= set(shown)
    assert ("equal at 11.5" in shown) == (crossing is not None)
    assert "shadow against nested paging: pages GUEST/HOST 4K/4K, costs round" in shown
    assert crossover_chart(crossover(crossing)) == svg


def test_charts_do_not_follow_the_settings_of_their_user() -> None:
    import matplotlib

    usual = compare_chart(comparison())
    with matplotlib.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "font.size": 30}):
        assert compare_chart(comparison()) == usual
        assert matplotlib.rcParams["font.size"] == 30


def test_the_table_of_a_crossover() -> None:
    text = table(render_crossover, crossover(11.5))
    assert re.search(r"^ +50 +10\.0 +1_000 +0 +100\.0 +1_000 +0 +400\.0 +1_000 +150$", text, re.MULTILINE)
    assert "shadow at 50: INVLPG 50, EXCEPTION_OR_NMI 100; 3.00 exits an update" in text
    assert "1000 x (100.0 - 10.0) / (2000 + 1000) = 30.0 updates" in text


def test_the_table_of_references_marks_what_differs() -> None:
    walks = (("4K", None, 4, 4), ("2M", None, 3, 3), ("4K", "4K", 25, 24), ("2M", "4K", 19, 19))
    rows = [
        {"guest": guest, "host": host, "references": count, "published": said, "source": "formula"}
        for guest, host, count, said in walks
    ]
    for one in rows:
        one["equal"] = one["references"] == one["published"]
    text = table(render_references, {"rows": rows, "equal": 3, "total": 4})
    assert re.search(r"^  no EPT +4 +3$", text, re.MULTILINE)
    assert re.search(r"^  4K +25 \[24\] +19$", text, re.MULTILINE)
    assert "3 of 4 counts equal the published ones" in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (12_345, "12.3 k"), (123_456, "123 k"), (3.45e9, "3.45 G")],
)
def test_cycles_as_people_read_them(count: float, shown: str) -> None:
    assert format_cycles(count) == shown
