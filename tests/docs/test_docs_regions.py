"""docs/reference/regions.md: its examples print what it shows, and it names every kind and field."""

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path

from quire.hypervisor import Region, RegionKind

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "regions.md"


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


def test_every_kind_and_field_is_named() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for kind in RegionKind:
        assert f"| `RegionKind.{kind.name}` |" in text
    for one in fields(Region):
        assert one.name == "kind" or f"`{one.name}`" in text
