"""A wheel has the code of all kernels in it, and whoever builds it anew gets the same bytes."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from limits import PATIENCE
from sampling import WHOLE, some

import quire
from quire.kernels.image import Image
from quire.kernels.processor import LEVELS, levels
from quire.kernels.sources import fingerprint
from quire.kernels.store import find, modules_with_code
from quire.kernels.warm import make

ROOT = Path(quire.__file__).parents[2]
MODULES = tuple(modules_with_code())


@pytest.mark.parametrize("others", some([(), ("quire.memory._kernels",)], [("quire.memory._kernels",)]), ids=str)
def test_code_does_not_depend_on_who_makes_it(others: tuple[str, ...], tmp_path: Path) -> None:
    """In whatever process, after whatever else, at whatever time: as the cache has it, which tests have from before."""
    module = "quire.memory._kernels_batches"
    make({one: one for one in (*others, module)}, tmp_path, tuple(LEVELS))
    for one in (*others, module):
        made = tmp_path / f"{one}.{levels()[0]}.image"
        assert made.read_bytes() == Path(find(one).path).read_bytes()
    assert len(list(tmp_path.iterdir())) == len(LEVELS) * len((*others, module))


def wheel(source: Path, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source, timeout=4 * PATIENCE, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (made,) = folder.iterdir()
    return made


@pytest.mark.skipif(not WHOLE, reason="compiles all kernels twice")
def test_two_builds_are_the_same_bytes_and_whole(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in ("src", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        place(ROOT / name, copy / name)
    first, second = wheel(ROOT, tmp_path / "first"), wheel(copy, tmp_path / "second")
    assert first.name == second.name and first.name.endswith("-py3-none-linux_x86_64.whl")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as content:
        stored = {name: content.read(name) for name in content.namelist() if name.endswith(".image")}
        content.extractall(tmp_path / "installed")
    for one in MODULES:
        for level in LEVELS:
            image = Image.decode(stored.pop(f"quire/kernels/stored/{one}.{level}.image"))
            assert (image.module, image.sources, image.processor) == (one, fingerprint(one), level)
    assert not stored
    code = "import sys; from quire.cli import main; sys.argv = ['quire', 'run', '--', 'true']; main()"
    environment = {
        **os.environ, "PYTHONPATH": str(tmp_path / "installed"), "QUIRE_CACHE_DIR": str(tmp_path / "cache")
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, check=True, env=environment)
    assert not (tmp_path / "cache").exists(), "the first run compiles nothing"


def test_an_editable_install_compiles_nothing_when_it_is_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _EDITABLE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stdout == "{} False\n"


_EDITABLE = """
import sys
sys.path.insert(0, ".")
from hatch_build import KernelBuildHook
data = {}
KernelBuildHook(".", {}, None, None, ".", "wheel").initialize("editable", data)
print(data, "numba" in sys.modules)
"""
