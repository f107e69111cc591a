"""Rooms import one way, files of a room in no circle, and heavy packages stay in the rooms that own them."""

import subprocess
import sys

import pytest
from import_graph import SourceTree, circles
from limits import PATIENCE
from rooms import PICTURE, SOURCE, between_markers, picture, rooms_of, rows, written

DOCUMENT = SOURCE.parent.parent / "docs" / "architecture.md"
# The source is read once, in one worker.
pytestmark = pytest.mark.xdist_group("imports")
TREE = SourceTree(SOURCE)
#: Each imports only rooms before it. "quire" is the package's own face, the last what ``python -m quire`` runs.
ROOMS = (
    "version",
    "errors",
    "documents",
    "failpoints",
    "own_descriptors",
    "kernels",
    "report",
    "arch",
    "memory",
    "paging",
    "tlb",
    "trace",
    "vcpu",
    "mmu",
    "devices",
    "exits",
    "observe",
    "machine",
    "state",
    "cpu",
    "guest",
    "quire",
    "study",
    "testing",
    "dumps",
    "cli",
    "__main__",
)
#: Rooms that only take plain records and arrays, and so may import none but these.
KNOW_NOTHING: dict[str, set[str]] = {"report": {"errors"}}
OWNERS = {
    "numba": {"kernels", "memory", "tlb", "cpu"},
    "cryptography": {"memory"},
    "llvmlite": {"kernels", "memory", "tlb", "cpu"},
    "unicorn": {"cpu", "testing"},
    "elftools": {"kernels", "guest", "state"},
    "capstone": {"cpu", "guest"},
    "rich": {"report"},
    "pyarrow": {"report"},
    "matplotlib": {"report"},
    "click": {"cli"},
}


def test_every_room_is_listed_and_exists() -> None:
    assert set(ROOMS) == set(TREE.rooms)
    assert len(ROOMS) == len(set(ROOMS))
    assert set().union(*OWNERS.values(), KNOW_NOTHING) <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_of_a_room_below(room: str) -> None:
    permitted = KNOW_NOTHING.get(room, set(ROOMS[: ROOMS.index(room)]))
    breaches = {
        module: sorted(below)
        for module in TREE.files
        if TREE.room_of(module) == room and (below := TREE.rooms_imported_by(module) - permitted)
    }
    assert not breaches


def test_no_rooms_import_each_other() -> None:
    assert not circles(TREE.rooms, TREE.rooms)


@pytest.mark.parametrize("room", ROOMS)
def test_no_circle_within_a_room(room: str) -> None:
    files = [module for module in TREE.files if TREE.room_of(module) == room]
    for graph in (TREE.file_to_file, TREE.through_faces):
        assert not circles(graph, files)


def test_heavy_packages_stay_with_their_owners() -> None:
    for module, imports in TREE.imports.items():
        for one in imports:
            package = one.module.partition(".")[0]
            assert TREE.room_of(module) in OWNERS.get(package, ROOMS), f"{module} imports {one}"


def test_the_compiler_is_imported_by_what_compiles_only() -> None:
    """Files of kernels name types of our own, so that a run needs no compiler."""
    for module, imports in TREE.imports.items():
        if TREE.room_of(module) != "kernels" and TREE.files[module].name != "_intrinsics.py":
            assert not any(one.module.partition(".")[0] in ("numba", "llvmlite") for one in imports), module


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['quire', '--help']\n"
        "from quire.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numba', 'unicorn', 'numpy', 'rich', 'capstone', 'pyarrow', 'matplotlib'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_files_are_of_readable_size() -> None:
    long = {
        str(p.relative_to(SOURCE)): n
        for p in TREE.files.values()
        if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long


def test_the_picture_in_the_documentation_is_up_to_date() -> None:
    """Rooms and imports exactly; sizes may lag by a tenth, so that not every change of a file changes the picture."""
    text = DOCUMENT.read_text()
    shown, real = rows(between_markers(text)), rooms_of(TREE)
    advice = "run: python tools/rooms.py --write docs/architecture.md"
    assert [(one.name, one.imports) for one in shown] == [(one.name, one.imports) for one in real], advice
    for old, new in zip(shown, real, strict=True):
        assert abs(old.lines - new.lines) <= 60 + new.lines // 10, f"{new.name}: {advice}"
        assert abs(old.files - new.files) <= 1 + new.files // 10, f"{new.name}: {advice}"
    assert written(text, shown) == text, advice
    assert (DOCUMENT.parent / PICTURE).read_text() == picture(shown), advice
