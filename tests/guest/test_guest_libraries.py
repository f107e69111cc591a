"""What a program reads to start: its libraries and theirs, and nothing else that it names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from limits import PATIENCE

from quire.guest.load.launch import prepare
from quire.guest.load.libraries import files_of


def _files(words: list[str], folder: Path) -> set[str]:
    """Return the paths that a command in `folder` may read."""
    found = files_of(prepare(words, os.environ["PATH"], str(folder)), {})
    return {os.fsdecode(path) for path in found}


@pytest.fixture
def gcc() -> str:
    found = shutil.which("gcc")
    if found is None:
        pytest.skip("this machine has no gcc")
    return found


def _make(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, timeout=PATIENCE)


def test_libraries_are_found_by_the_programs_own_path(gcc: str, tmp_path: Path) -> None:
    """And the C library, with the linker and its cache."""
    (tmp_path / "one.c").write_text("int one(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int one(void); int main(void) { return one(); }\n")
    library, program = tmp_path / "libone.so", tmp_path / "main"
    _make(gcc, "-shared", "-fPIC", tmp_path / "one.c", "-o", library)
    _make(gcc, tmp_path / "main.c", library, "-Wl,-rpath,$ORIGIN", "-o", program)
    found = _files([str(program)], tmp_path)
    assert {str(program), str(library), "/etc/ld.so.cache"} <= found
    assert any(name.startswith("libc.so") for name in map(os.path.basename, found))


def test_a_library_that_is_none_is_not_read(gcc: str, tmp_path: Path) -> None:
    """A hostile program names what it wants to read: by its whole path, and in a folder of its own choice."""
    secret = tmp_path / "secret"
    secret.write_text("nobody's business\n")
    (tmp_path / "stub.c").write_text("int one(void) { return 1; }\n")
    (tmp_path / "main.c").write_text("int one(void); int main(void) { return one(); }\n")
    for number, name in enumerate((str(secret), "secret")):
        stub, program = tmp_path / "libstub.so", tmp_path / f"main-{number}"
        _make(gcc, "-shared", "-fPIC", f"-Wl,-soname,{name}", tmp_path / "stub.c", "-o", stub)
        _make(gcc, tmp_path / "main.c", stub, f"-Wl,-rpath,{tmp_path}", "-o", program)
        found = _files([str(program)], tmp_path)
        assert str(program) in found and str(secret) not in found


def test_arguments_are_no_scripts(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("data\n")
    script = tmp_path / "script"
    script.write_text(f"#!{shutil.which('sh')} -e\n")
    script.chmod(0o755)
    found = _files([str(script), "data", str(tmp_path / "data")], tmp_path)
    assert str(script) in found and not found & {"data", str(tmp_path / "data")}
    found = _files(["cat", str(tmp_path / "data")], tmp_path)
    assert str(tmp_path / "data") not in found
