"""Explaining one address is quick: no compiler, no engine, and the image is not read whole."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import example_files, quire
from limits import PATIENCE
from sampling import some

from quire.guest.own_process import is_own_process

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
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
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
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stderr.endswith("[]")


@pytest.mark.parametrize("name", some(list(_CASES), ["walk-core", "profiles"]))
def test_stdout_that_takes_nothing(name: str, tmp_path: Path) -> None:
    """A full disk is one line, a reader that leaves and a closed stdout are nothing."""
    example_files(tmp_path)
    verb, argv = _CASES[name][0], [sys.executable, "-m", "quire", *_CASES[name]]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            argv, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    said = f"quire {verb}: the answer could not be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (125, said)
    status = subprocess.run(
        argv, cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=PATIENCE, check=False
    ).returncode
    for redirection in ("| true; exit ${PIPESTATUS[0]}", ">&-"):
        line = f"{shlex.join(argv)} {redirection}"
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (done.returncode, done.stderr) == (status, "")


def test_one_address_of_a_large_core_does_not_read_it(tmp_path: Path) -> None:
    """Of 4 TiB, nearly all a hole of the file: what reads through it does not end before the test's patience does."""
    example_files(tmp_path)
    with open(tmp_path / "dead.core", "r+b") as file:
        content = file.read()
        segment = content.index(b"\x01\0\0\0\7\0\0\0", 64)  # the first PT_LOAD: make it a large one
        size = 1 << 42
        file.truncate(len(content) + size)
        file.seek(segment + 8)
        file.write(len(content).to_bytes(8, "little") + (1 << 44).to_bytes(8, "little") * 2)
        file.write(size.to_bytes(8, "little") * 2)
    done = subprocess.run(
        [sys.executable, "-m", "quire", *_CASES["walk-core"]],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert b"0x40000003000 bytes in 4 ranges" in done.stdout


def test_a_process_that_goes_on_is_not_quires_alone(tmp_path: Path) -> None:
    """Only a process that was started for one command may be walled in for good."""
    quire(tmp_path, "doctor")
    assert not is_own_process()
