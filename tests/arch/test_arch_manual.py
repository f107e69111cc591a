"""What holds of every public layout and every module of the arch room."""

import ast
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quire.arch
from quire.arch import Kind, Layout

ROOM = Path(quire.arch.__file__).parent
LAYOUTS = {name: getattr(quire.arch, name) for name in quire.arch.__all__}
LAYOUTS = {name: value for name, value in LAYOUTS.items() if isinstance(value, Layout)}
SECTION = re.compile(r"(SDM \d[A-D]?|APM \d|FRED|ISE) §[0-9A-Z]+(\.[0-9]+)*")

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def test_every_layout_is_public() -> None:
    """A layout bound to a public name anywhere in the room is offered by the room."""
    for path in ROOM.glob("*.py"):
        for name in re.findall(
            r"^([A-Z][A-Z0-9_]*) = (?:Layout|_table_entry)\(", path.read_text("utf-8"), re.MULTILINE
        ):
            assert name in LAYOUTS, f"{path.name} declares {name}, quire.arch does not offer it"
    assert len(LAYOUTS) > 50


@pytest.mark.parametrize("name", LAYOUTS)
def test_name_and_section(name: str) -> None:
    assert LAYOUTS[name].name == name
    assert SECTION.fullmatch(LAYOUTS[name].section)


@each_layout
def test_disjoint_and_covering(layout: Layout) -> None:
    total = 0
    for one in layout.fields:
        assert not total & one.mask
        total |= one.mask
    assert total == (1 << layout.width) - 1


@each_layout
def test_every_field_has_a_meaning(layout: Layout) -> None:
    assert all(one.meaning for one in layout.fields)


@each_layout
@given(data=st.data())
def test_round_trip(layout: Layout, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << layout.width) - 1))
    meant = layout.mask(*(one.name for one in layout.fields if one.kind is Kind.FIELD))
    assert layout.encode(**layout.decode(value)) == value & meant
    assert layout.set(value, **layout.decode(value)) == value
    assert meant | layout.reserved_mask | layout.ignored_mask == (1 << layout.width) - 1


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_module_imports_nothing_but_the_standard_library(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            root = name.partition(".")[0]
            permitted = name in ("quire.documents", "quire.errors") or name.startswith("quire.arch.")
            assert root in sys.stdlib_module_names or permitted


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_every_section_is_cited_in_the_fixed_form(path: Path) -> None:
    # The pattern that enforces the form is not a citation; a line break inside a citation is none either.
    text = re.sub(r"^_SECTION = .*$", "", path.read_text("utf-8"), flags=re.MULTILINE)
    text = " ".join(text.split())
    for found in re.finditer("§", text):
        before = text[: found.start()]
        assert re.search(r"(SDM \d[A-D]?|APM \d|FRED|ISE) (§[A-Z0-9.]+ to )?$", before), f"{before[-30:]}§"


def test_all_names_exist_once() -> None:
    assert len(quire.arch.__all__) == len(set(quire.arch.__all__))
    assert all(hasattr(quire.arch, name) for name in quire.arch.__all__)
