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
