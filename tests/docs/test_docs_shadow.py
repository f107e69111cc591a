"""docs/reference/shadow.md: its example prints what it shows, and it names every option of a shadow."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path

from quire.mmu import ShadowOptions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "shadow.md"


def block(language: str) -> str:
    """Return the one block of `language`."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    return str(found)


def test_the_example_prints_what_is_shown() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block("python"), str(DOCUMENT), "exec"), {})
    assert printed.getvalue() == block("text")


def test_every_option_is_named() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for field in dataclasses.fields(ShadowOptions):
        assert f"| `{field.name}` |" in text
