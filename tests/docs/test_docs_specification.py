"""docs/SPECIFICATION.md names tests and benchmarks that there are: a promise without a proof is found here."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "SPECIFICATION.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"`(tests/[^`]*)`", TEXT)))
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| promise |")]


@cache
def names(path: Path) -> set[str]:
    """Return the tests of a file: ``test_x``, ``TestX``, ``TestX::test_x``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return {name for name in found if name.split("::")[-1].lower().startswith("test")}


def test_tests_that_are_named_exist() -> None:
    missing = []
    for reference in TESTS:
        path, _, name = reference.partition("::")
        if not (ROOT / path).is_file() or name not in names(ROOT / path):
            missing.append(reference)
    assert len(TESTS) > 200
    assert missing == [], "name file::function of a test that there is"


def test_other_files_that_are_named_exist() -> None:
    paths = set(re.findall(r"`(?:python )?((?:bench|tests|\.ci)/[\w/.]+)`", TEXT))
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []


def test_every_promise_names_what_shows_it() -> None:
    bare = [row for row in ROWS if "`" not in row.split(" | ")[-1] and "---" not in row]
    assert bare == []


def test_tables_are_whole() -> None:
    """A row that follows no row is a head, with a line of dashes below it."""
    lines = ["", *TEXT.splitlines(), ""]
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if line.startswith("|") and not before.startswith("|"):
            assert after.startswith("|---"), line
