"""What is missing is made once, by whoever comes first; on any doubt Numba compiles, and it is said why."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from limits import PATIENCE

import quire
from quire.kernels.processor import levels
from quire.kernels.store import cache_folder, file_name, find, modules_with_code

MODULES = tuple(modules_with_code())
#: A module whose code takes a second to make.
SMALL = "quire.cpu.soft._kernels_process"
SMALL_FILE = f"{file_name(SMALL)}.{levels()[0]}.image"
SAYS = "compiling kernels"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that has all but the code of the small module."""
    made = tmp_path / "cache"
    made.mkdir(mode=0o700)
    for module in MODULES:
        found = find(module)
        if module != SMALL:
            shutil.copyfile(found.path, made / Path(found.path).name)
            (made / Path(found.path).name).chmod(0o600)
    return made


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=PATIENCE, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.strip()


#: Asks for an address, and prints what is said meanwhile, where the code is from, and whether a compiler was loaded.
ASKS = """
import sys
from quire.kernels import before_compiling
before_compiling(print)
from quire.cpu.soft import _kernels_process as module
assert module.on_in.address
print(module.on_in.origin, "numba" in sys.modules)
"""


def test_what_is_missing_is_made_once_and_it_is_said(cache: Path) -> None:
    others = {one.name: one.stat().st_mtime_ns for one in cache.iterdir()}
    assert run(ASKS, QUIRE_CACHE_DIR=str(cache)) == f"{SAYS} (once, up to a minute)\nstored False"
    made = cache / SMALL_FILE
    assert made.stat().st_mode & 0o777 == 0o600
    when = made.stat().st_mtime_ns
    assert run(ASKS, QUIRE_CACHE_DIR=str(cache)) == "stored False"
    assert made.stat().st_mtime_ns == when
    assert {one.name: one.stat().st_mtime_ns for one in cache.iterdir() if one.name in others} == others


def test_processes_that_come_together_make_it_once(cache: Path) -> None:
    code = "from quire.kernels.warm import warm; print(*warm())"
    command, environment = [sys.executable, "-c", code], {**os.environ, "QUIRE_CACHE_DIR": str(cache)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    answers = sorted(one.communicate(timeout=PATIENCE)[0].strip() for one in both)
    assert answers == ["", SMALL]


def test_old_code_is_removed(cache: Path) -> None:
    for number in range(6):
        old = cache / f"{SMALL}-{number:016x}.image"
        old.write_bytes(b"old")
        os.utime(old, (number, number))
    (cache / f"{SMALL}_other-0000000000000000.image").write_bytes(b"of another module")
    run("from quire.kernels.warm import warm; warm()", QUIRE_CACHE_DIR=str(cache))
    left = {one.name for one in cache.glob(f"{SMALL}-*")}
    assert left == {SMALL_FILE} | {f"{SMALL}-{number:016x}.image" for number in (3, 4, 5)}
    assert (cache / f"{SMALL}_other-0000000000000000.image").exists()


def test_where_nothing_can_be_stored_numba_compiles_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / "file" / "cache"
    said = run(ASKS, QUIRE_CACHE_DIR=str(place), NUMBA_CACHE_DIR=str(tmp_path / "numba")).splitlines()
    assert said[0] == (
        f"{SAYS} with Numba, for nothing can be stored in {place}: Not a directory (once, up to a minute)"
    )
    assert said[1:] == ["compiled True"]


def test_a_processor_that_does_not_fit_has_numba_compile(tmp_path: Path) -> None:
    code = (
        "from quire.kernels import processor, store\n"
        "store.missing_features = lambda: frozenset(('avx2',))\n" + ASKS
    )
    said = run(code, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert said[0] == f"{SAYS} with Numba, for the processor lacks avx2 of x86-64-v3 (once, up to a minute)"
    assert said[1:] == ["compiled True"]


def test_changed_sources_are_compiled_anew(cache: Path, tmp_path: Path) -> None:
    """A copy of Quire with one constant changed has new code where it reaches, and the old code elsewhere."""
    shutil.copytree(
        Path(quire.__file__).parent, tmp_path / "quire", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = tmp_path / "quire" / "cpu" / "soft" / "_kernels_process.py"
    text = source.read_text()
    assert "(TABLE >> 12) + 1" in text
    source.write_text(text.replace("(TABLE >> 12) + 1", "(TABLE >> 12) + 2"))
    code = (
        "from quire.kernels.warm import warm; from quire.kernels.store import find\nprint(*warm())\n"
        "from quire.cpu.soft import _kernels_process as module\nassert module.on_in.address\nprint(module.on_in.origin)"
    )
    said = run(code, QUIRE_CACHE_DIR=str(cache), PYTHONPATH=str(tmp_path)).splitlines()
    assert said == [SMALL, "stored"]


def test_what_a_wheel_was_built_with_is_kept_for_an_editable_install(cache: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    code = (
        "from pathlib import Path\nfrom quire.kernels.warm import keep, make, warm\n"
        "from quire.kernels.processor import LEVELS\nfrom quire.cpu.soft import _kernels_process\n"
        f"folder, name = Path({str(built)!r}), {SMALL!r}\n"
        "make({name: name}, folder, tuple(LEVELS)); keep([name], folder)\nprint(warm())"
    )
    assert run(code, QUIRE_CACHE_DIR=str(cache)) == "[]"
    made = cache / SMALL_FILE
    assert made.stat().st_mode & 0o777 == 0o600
    assert made.read_bytes() == (built / f"{SMALL}.{levels()[0]}.image").read_bytes()
    (tmp_path / "file").write_bytes(b"")
    run(code.replace("print(warm())", ""), QUIRE_CACHE_DIR=str(tmp_path / "file" / "cache"))  # nothing is lost by it


def test_the_verb_says_what_it_did(cache: Path) -> None:
    def warm(*words: str) -> tuple[str, str, int]:
        done = subprocess.run(
            [sys.executable, "-m", "quire", "warm", *words],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
            env={**os.environ, "QUIRE_CACHE_DIR": str(cache)},
        )  # fmt: skip
        return done.stdout, done.stderr, done.returncode

    assert warm() == (
        f"compiled 1 modules of kernels into {cache}\n", f"quire: {SAYS} (once, up to a minute)\n", 0,
    )  # fmt: skip
    assert warm() == ("all kernels are compiled\n", "", 0)
    out, err, status = warm("--json")
    assert re.sub(r"\s", "", out) == f'{{"schema":1,"compiled":[],"folder":"{cache}"}}' and (err, status) == (
        "",
        0,
    )
    (cache / "lock").unlink()
    (cache / "lock").mkdir()
    assert warm() == ("", f"quire warm: nothing can be stored in {cache}: Is a directory\n", 125)


def test_the_cache_of_this_user_is_whole() -> None:
    """What tests run with: none of them compiles what rooms have."""
    assert cache_folder().is_absolute()
    assert all(find(module).image is not None for module in MODULES)
