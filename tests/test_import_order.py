"""Rooms import one way: none imports one below it, and heavy packages stay in the rooms that own them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "quire"
ROOMS = (
    *("errors", "failpoints", "kernels", "arch", "memory", "paging", "tlb", "vcpu", "hypervisor", "cpu"),
    *("guest", "trace", "study", "report", "testing", "cli"),
)
#: Rooms that a room below takes plain records to: report knows nothing of the model, so the guest may use it.
LEAVES = {"report"}
OWNERS = {
    "numba": {"kernels", "memory", "paging", "tlb", "cpu"},
    "cryptography": {"memory"},
    "llvmlite": {"cpu", "memory", "tlb"},
    "unicorn": {"cpu", "testing"},
    "elftools": {"guest"},
    "capstone": {"cpu", "guest"},
    "rich": {"report"},
    "pyarrow": {"report"},
    "matplotlib": {"report"},
    "click": {"cli"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


#: Rooms of one file.
FILES_OF_THEIR_OWN = ("errors.py", "failpoints.py", "kernels.py")
FILES = sorted(
    path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name in FILES_OF_THEIR_OWN
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_import_of_a_room_below(path: Path) -> None:
    here = ROOMS.index(room_of(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "quire" and len(parts) > 1 and parts[1] not in LEAVES and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= here, f"{path.name} of {ROOMS[here]} imports {name}"
        if parts[0] in OWNERS:
            assert room_of(path) in OWNERS[parts[0]], f"{path.name} imports {name}"


def test_report_imports_no_room() -> None:
    for path in (SOURCE / "report").glob("*.py"):
        for name in imports(path):
            assert not name.startswith("quire.") or name.startswith("quire.report"), f"{path.name}: {name}"


def test_compiled_loops_are_in_kernel_files_only() -> None:
    for path in FILES:
        if not re.fullmatch(r"_kernels(_[a-z]+)?\.py|kernels\.py", path.name):
            assert "numba" not in set(imports(path)), path


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['quire', '--help']\n"
        "from quire.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numba', 'unicorn', 'numpy', 'rich', 'capstone', 'pyarrow', 'matplotlib'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_files_are_of_readable_size() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 420}
    assert not long


#: Rooms whose circles are not cut yet.
WITH_CIRCLES = {"hypervisor", "guest"}


def module_of(path: Path) -> str:
    parts = ("quire", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules that a file names, a package's face as the package; `if TYPE_CHECKING` counts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                yield inside if inside in MODULES else node.module


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in WITH_CIRCLES])
def test_no_circle_in_a_room(room: str) -> None:
    """File by file those are taken away that need none of the rest: what is left at the end is in a circle."""
    mine = {name: path for name, path in MODULES.items() if room_of(path) == room}
    left = {name: {one for one in imported_modules(path) if one in mine and one != name} for name, path in mine.items()}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    assert not left


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_imports_its_own_package_by_its_face(path: Path) -> None:
    if room_of(path) not in WITH_CIRCLES:
        packages = [parent for parent in path.parents if parent.is_relative_to(SOURCE) and parent != SOURCE]
        own = {module_of(package / "__init__.py") for package in packages}
        if path.name == "__init__.py":
            own.discard(module_of(path))
        assert not own & set(imported_modules(path))
