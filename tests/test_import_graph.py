"""The scanner of imports sees every form of them, and the picture of rooms shows what it sees."""

from pathlib import Path

import pytest
from import_graph import SourceTree, circles
from rooms import Room, picture, rooms_of, rows, table


def tree_of(folder: Path, files: dict[str, str]) -> SourceTree:
    """A package `whole` of the given files."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "whole" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SourceTree(folder / "whole")


@pytest.mark.parametrize(
    "statement",
    [
        "import whole.high",
        "import whole.high.y",
        "import os, whole.high.y as y",
        "from whole import high",
        "from whole import high as other",
        "from whole.high import y",
        "from whole.high import Name",
        "from whole.high import *",
        "from whole.high.y import Name",
        "from .. import high",
        "from ..high import Name",
        "from ..high.y import Name",
        "def late():\n    import whole.high",
        "class Late:\n    def later(self):\n        from ..high import y",
        "if TYPE_CHECKING:\n    from whole.high import Name",
        "try:\n    import whole.high.y\nexcept ImportError:\n    pass",
        'import importlib\nimportlib.import_module("whole.high.y")',
        'from importlib import import_module\nimport_module(f"whole.high.{name}")',
        '__import__("whole.high.y")',
    ],
)
def test_every_form_of_import_is_seen(statement: str, tmp_path: Path) -> None:
    files = {"high/__init__.py": "from whole.high.y import Name", "high/y.py": "Name = 1"}
    tree = tree_of(tmp_path, {"low/__init__.py": "", "low/x.py": statement, **files})
    assert tree.rooms == {"whole": set(), "low": {"high"}, "high": set()}
    assert tree.rooms_imported_by("whole.low.x") == {"high"}


def test_relative_imports_of_a_face_begin_at_its_own_package(tmp_path: Path) -> None:
    face = "from .x import Name\nfrom ..high import y"
    files = {"low/__init__.py": face, "low/x.py": "Name = 1", "high/__init__.py": "", "high/y.py": ""}
    assert tree_of(tmp_path, files).through_faces["whole.low"] == {"whole.low.x", "whole.high.y"}


def test_other_packages_strings_and_comments_are_no_imports(tmp_path: Path) -> None:
    text = '"""import whole.high"""\nimport wholesale.high, os.path\n# from whole import high\nfrom json import loads'
    assert not tree_of(tmp_path, {"low.py": text, "high.py": ""}).rooms["low"]


@pytest.mark.parametrize(
    ("name", "definer"),
    [
        ("Outer", "low.sub.deep"),
        ("First", "low.a"),
        ("Last", "low.sub.deep"),
        ("Own", "low"),
        ("own", "low"),
        ("alias", "low.a"),
        ("a", "low.a"),
        ("Nowhere", "low"),
    ],
)
def test_a_name_of_a_face_is_that_of_the_file_that_defines_it(
    name: str, definer: str, tmp_path: Path
) -> None:
    face = (
        "from whole.low.sub import Inner as Outer\nfrom whole.low.a import *\nfrom .sub import *\n"
        "import whole.low.a as alias\nOwn = 1\ndef own(): ..."
    )
    files = {
        "low/__init__.py": face,
        "low/a.py": "First = Own = 1",
        "low/b.py": f"from whole.low import {name}",
        "low/sub/__init__.py": "from .deep import Inner, Last",
        "low/sub/deep.py": "class Inner: ...\nclass Last: ...",
    }
    tree = tree_of(tmp_path, files)
    assert tree.file_to_file["whole.low.b"] == {f"whole.{definer}"}
    assert tree.through_faces["whole.low.b"] == {"whole.low.a" if name == "a" else "whole.low"}


def test_circles_by_files_and_through_faces(tmp_path: Path) -> None:
    files = {
        "low/__init__.py": "from whole.low.a import A\nfrom whole.low.b import B",
        "low/a.py": "A = 1",
        "low/b.py": "from whole.low import A\nB = 1",
        "low/c.py": "def late():\n    from whole.low.d import D",
        "low/d.py": "if TYPE_CHECKING:\n    from whole.low import c",
        "low/e.py": "import whole.low.e",
    }
    tree = tree_of(tmp_path, files)
    late = ["whole.low.c", "whole.low.d"]
    assert circles(tree.file_to_file, tree.files) == [late]
    assert circles(tree.through_faces, tree.files) == [["whole.low", "whole.low.b"], late]
    assert circles(tree.through_faces, ["whole.low.a", "whole.low.b", "whole.low.c"]) == []


def test_circles_that_share_no_file_are_told_apart() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e", "f"}, "e": {"d"}, "f": set()}
    assert circles(graph, graph) == [["a", "b", "c"], ["d", "e"]]


def test_rooms_come_after_those_that_they_import(tmp_path: Path) -> None:
    files = {
        "z/__init__.py": "",
        "z/more.py": "\n\n",
        "a.py": "import whole.z",
        "m.py": "import whole.a, whole.z",
    }
    rooms = rooms_of(tree_of(tmp_path, {**files, "__main__.py": "import whole.m"}))
    assert rooms == [Room("z", 2, 2, ()), Room("a", 1, 1, ("z",)), Room("m", 1, 1, ("a", "z"))]
    assert rows(table(rooms)) == rooms
    assert picture(rooms).count("<rect") == 3
    assert picture(rooms).count("marker-end") == 2, "what another import implies is not drawn"


def test_rooms_in_a_circle_are_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="import each other"):
        rooms_of(tree_of(tmp_path, {"a.py": "import whole.z", "z.py": "import whole.a"}))
