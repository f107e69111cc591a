"""Explaining one address is quick: no compiler, no engine, and the image is not read whole."""

import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import example_files

_HEAVY = ("numba", "llvmlite", "unicorn", "capstone", "quire.testing", "quire.cpu", "quire.hypervisor")
_CASES = {
    "walk-tables": ["walk", "--tables", "tables.toml", "0x7fff_f123"],
    "walk-core": ["walk", "--image", "dead.core", "0x7fff_f123"],
    "decode": ["decode", "pte", "0x67"],
    "profiles": ["profiles"],
    "lint": ["lint", "--tables", "tables.toml", "--vmcs", "vmcs.toml"],
}


@pytest.mark.parametrize("name", _CASES)
def test_nothing_heavy_is_imported(name: str, tmp_path: Path) -> None:
    example_files(tmp_path)
    code = (
        f"import sys; sys.argv = ['quire', *{_CASES[name]!r}]\n"
        "from quire.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.programs
@pytest.mark.parametrize("line", ["run --report none -- true", "compare --mmu native -- true"])
def test_charts_and_columns_are_loaded_when_asked_for(line: str) -> None:
    code = (
        f"import sys; sys.argv = ['quire', *{line.split()!r}]\n"
        "from quire.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(str([name for name in ('matplotlib', 'pyarrow') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("[]")


@pytest.mark.parametrize("name", _CASES)
def test_stdout_that_takes_nothing(name: str, tmp_path: Path) -> None:
    """A full disk is one line, a reader that leaves and a closed stdout are nothing."""
    example_files(tmp_path)
    verb, argv = _CASES[name][0], [sys.executable, "-m", "quire", *_CASES[name]]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = f"quire {verb}: the answer could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (125, said)
    status = subprocess.run(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, check=False).returncode
    for redirection in ("| true; exit ${PIPESTATUS[0]}", ">&-"):
        line = f"{shlex.join(argv)} {redirection}"
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, "")


def test_one_address_of_a_large_core_takes_no_second(tmp_path: Path) -> None:
    """Of 1 GiB, nearly all a hole of the file: how long it takes is measured elsewhere, this finds what scans it."""
    example_files(tmp_path)
    with open(tmp_path / "dead.core", "r+b") as file:
        content = file.read()
        segment = content.index(b"\x01\0\0\0\7\0\0\0", 64)  # the first PT_LOAD: make it a large one
        size = 1 << 30
        file.truncate(len(content) + size)
        file.seek(segment + 8)
        file.write(len(content).to_bytes(8, "little") + (1 << 40).to_bytes(8, "little") * 2)
        file.write(size.to_bytes(8, "little") * 2)
    best = 1e9
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "quire", *_CASES["walk-core"]],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert b"0x40003000 bytes in 4 ranges" in done.stdout
    assert best < 1.0
