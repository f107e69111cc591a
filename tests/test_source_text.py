"""How the source is written: no star that only groups, and numbers that have a name spelled by that name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "quire"
FILES = sorted(SOURCE.rglob("*.py"))
WORD, LOW32 = (1 << 64) - 1, (1 << 32) - 1
#: Where each number is declared, as `quire.arch` names it.
DECLARED = dict.fromkeys((WORD, LOW32), SOURCE / "arch" / "layout.py")


def grouping(tree: ast.AST) -> Iterator[int]:
    """Yield the lines with a star over a tuple, list or set that is written out: its parts could stand there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Tuple | ast.List | ast.Set):
            yield node.lineno


def spelled(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Yield each number of DECLARED that is written out, with its line: as a literal, or as one less than a power."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=int(number)) if number in DECLARED:
                yield number, node.lineno
            case ast.BinOp(
                ast.BinOp(ast.Constant(1), ast.LShift(), ast.Constant(int(bits))), ast.Sub(), ast.Constant(1)
            ) if (number := (1 << bits) - 1) in DECLARED:
                yield number, node.lineno


@pytest.mark.parametrize(
    "line", ["f(a, *(1, 2))", "a = (*(1, 2), *(3, 4))", "a = [*[1], 2]", "a = {*{1}, 2}", "a: b[*(c, d)]"]
)
def test_stars_that_only_group_are_seen(line: str) -> None:
    assert list(grouping(ast.parse(line)))


@pytest.mark.parametrize("line", ["f(*a)", "a = (*b, 1)", "a = [*(n for n in b)]", "a = (*b(), *c[1:])"])
def test_stars_that_open_something_are_not(line: str) -> None:
    assert not list(grouping(ast.parse(line)))


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("a = (1 << 64) - 1", WORD),
        ("a = b & 0xFFFF_FFFF_FFFF_FFFF", WORD),
        ("f((1 << 32) - 1)", LOW32),
        ("a &= 0xffffffff", LOW32),
    ],
)
def test_all_ones_are_seen(line: str, number: int) -> None:
    assert list(spelled(ast.parse(line))) == [(number, 1)]


@pytest.mark.parametrize("line", ["a = 1 << 64", "a = (1 << 64 - b) - 1", "a = (1 << 63) - 1"])
def test_other_numbers_are_not(line: str) -> None:
    assert not list(spelled(ast.parse(line)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_source(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not list(grouping(tree))
    assert not [(hex(number), line) for number, line in spelled(tree) if DECLARED[number] != path]
