"""docs/reference/secure.md: its example prints what it shows, and its bounds are the code's."""

import contextlib
import io
import re
from pathlib import Path

from quire.memory.secure.pool import MAX_PAGES

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "secure.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_example_prints_what_is_shown() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block("python"), "secure.md", "exec"), {})
    assert printed.getvalue() == block("output")


def test_the_bound() -> None:
    assert f"at most {MAX_PAGES:#x};" in TEXT
