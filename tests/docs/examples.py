"""Examples of the reference documents: their blocks of code, and what these print."""

import contextlib
import io
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"


def text_of(document: str) -> str:
    """Return a reference document."""
    return (FOLDER / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of `language`."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(document), re.S)


def check_examples(document: str) -> None:
    """Execute the Python blocks, one after the other, and compare what each prints with the text block behind it."""
    names: dict[str, object] = {}
    for code, expected in zip(blocks(document, "python"), blocks(document, "text"), strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, document, "exec"), names)
        assert printed.getvalue() == expected
