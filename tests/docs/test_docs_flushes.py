"""docs/reference/flushes.md and invalidation.md: the example prints what it shows, the table is that of the code."""

import contextlib
import io
import re
from pathlib import Path

from invalidation_page import DOCUMENT, page

from quire.machine import CachingMode

FLUSHES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "flushes.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", FLUSHES.read_text(encoding="utf-8"), re.S)
    return str(found)


def test_the_example_prints_what_is_shown() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block("python"), str(FLUSHES), "exec"), {})
    assert printed.getvalue() == block("text")


def test_every_mode_is_named() -> None:
    text = FLUSHES.read_text(encoding="utf-8")
    assert all(f"`--caching {mode}`" in text for mode in CachingMode)


def test_the_table_of_invalidations_is_that_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert page(text) == text
