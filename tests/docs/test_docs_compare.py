"""docs/reference/compare.md: its examples run, and it names every field, column and sentence that there is."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from limits import PATIENCE

from quire.report import render_compare_table
from quire.report.columns import compare_parquet
from quire.study import NOT_MODELLED, compare

pytestmark = pytest.mark.programs

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "compare.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
#: Fields whose keys are data: what is below them is not named field by field.
OPEN = (
    "rows.exits.by_reason",
    "rows.cycles.walk_guest",
    "rows.cycles.walk_host",
    "rows.cycles.exits",
    "costs",
)


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


def fields(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and path not in OPEN:
        for name, inner in value.items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and path in ("rows", "verdicts"):
        yield path
        yield from fields(value[0], path)
    else:
        yield path


def test_the_python_example_with_the_profile_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block("toml"))
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, block("output")), done.stderr


def test_every_field_and_column_is_named_in_order() -> None:
    record = compare(["true"], mmus="native")
    table = TEXT.split("## The record")[1].split("Columns of")[0]
    named = re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)))
    assert named == list(fields(record))
    from pyarrow import parquet

    columns = TEXT.split("Columns of the Parquet file: ")[1].split(". The rest")[0]
    assert (
        re.findall(r"`(\w+)`", columns)
        == parquet.read_table(io.BytesIO(compare_parquet(record))).column_names
    )
    shown = io.StringIO()
    render_compare_table(record, shown)
    heads = [line for line in block("console").splitlines() if line.lstrip().startswith("configuration")]
    assert heads[0] == next(line for line in shown.getvalue().splitlines() if "by cause" in line)


def test_what_is_not_modelled_is_listed() -> None:
    listed = TEXT.split("The model does not know:")[1].split("## The record")[0]
    assert re.findall(r"^- (.*)$", listed, re.MULTILINE) == list(NOT_MODELLED)
