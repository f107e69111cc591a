"""docs/reference/dirty.md: its examples print what it shows, and it names every way."""

import contextlib
import io
import re
from pathlib import Path

from quire.hypervisor import DirtyWay

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "dirty.md"


def blocks(language: str) -> list[str]:
    """Return the blocks of `language`."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)


def test_the_examples_print_what_is_shown() -> None:
    names: dict[str, object] = {}
    for code, expected in zip(blocks("python"), blocks("text"), strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(DOCUMENT), "exec"), names)
        assert printed.getvalue() == expected


def test_every_way_is_named() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for way in DirtyWay:
        assert f"| `DirtyWay.{way.name}` |" in text
