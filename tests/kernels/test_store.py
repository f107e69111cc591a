"""Which stored code is used: what fits these sources and this processor, from files that nobody else wrote."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quire.kernels import store
from quire.kernels.image import Image
from quire.kernels.processor import LEAST, levels
from quire.kernels.sources import fingerprint
from quire.kernels.store import cache_folder, file_name, find, modules_with_code, unfit

MODULE = "quire.memory._kernels"
MODULES = tuple(modules_with_code())
LEVEL = levels()[0]
CACHED, PACKED_NAME = f"{file_name(MODULE)}.{LEVEL}.image", f"{MODULE}.{LEVEL}.image"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with the code of one module in it, and a package that has none."""
    found = find(MODULE)
    assert found.image is not None
    monkeypatch.setattr(store, "PACKED", tmp_path / "stored")
    monkeypatch.setattr(store, "cache_folder", lambda: tmp_path / "cache")
    for name in ("stored", "cache"):
        (tmp_path / name).mkdir()
    file = tmp_path / "cache" / CACHED
    shutil.copyfile(found.path, file)
    file.chmod(0o600)
    yield tmp_path
    file.chmod(0o600)


def test_every_module_with_code_has_its_code() -> None:
    assert len(MODULES) > 10 and MODULE in MODULES
    assert "quire.memory._kernels_buddy" not in MODULES, "only kernels call these"
    for module in MODULES:
        found = find(module)
        assert found.image is not None, found.doubts
        assert found.image.module == module and found.image.entries


def test_code_in_the_cache_is_found(folder: Path) -> None:
    found = find(MODULE)
    assert found.image is not None and found.path == str(folder / "cache" / CACHED)
    assert not found.doubts


def test_the_package_comes_first(folder: Path) -> None:
    shutil.copyfile(folder / "cache" / CACHED, folder / "stored" / PACKED_NAME)
    (folder / "stored" / PACKED_NAME).chmod(0o644)
    assert find(MODULE).path == str(folder / "stored" / PACKED_NAME)


def test_the_best_level_that_the_processor_has_comes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the cache of a processor with the least level, whose code another one made for it."""
    file = folder / "cache" / f"{file_name(MODULE)}.{LEAST}.image"
    if LEVEL != LEAST:
        image = Image.decode((folder / "cache" / CACHED).read_bytes())
        file.write_bytes(image._replace(processor=LEAST).encode())
        file.chmod(0o600)
        assert find(MODULE).path == str(folder / "cache" / CACHED)
    monkeypatch.setattr(store, "levels", lambda: (LEAST,))
    assert find(MODULE).path == str(file)
    monkeypatch.setattr(store, "levels", tuple)
    assert find(MODULE).image is None


def refused(folder: Path) -> str:
    found = find(MODULE)
    assert found.image is None and found.path == ""
    (doubt,) = found.doubts
    assert str(folder / "cache" / CACHED) in doubt
    return doubt


def test_a_file_that_others_may_write_is_not_used(folder: Path) -> None:
    (folder / "cache" / CACHED).chmod(0o666)
    assert "may be written by others" in refused(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_not_used(folder: Path) -> None:
    os.chown(folder / "cache" / CACHED, 1234, 1234)
    assert "belongs to user 1234" in refused(folder)


def test_a_changed_byte_is_seen(folder: Path) -> None:
    file = folder / "cache" / CACHED
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "its bytes are not those that were written" in refused(folder)


def change(folder: Path, **fields: str) -> None:
    file = folder / "cache" / CACHED
    file.write_bytes(Image.decode(file.read_bytes())._replace(**fields).encode())


@pytest.mark.parametrize(
    "fields",
    [{"sources": "00" * 32}, {"module": "quire.trace._kernels"}, {"processor": "x86-64-v9"}],
    ids=["sources", "module", "processor"],
)
def test_code_of_something_else_is_not_used(folder: Path, fields: dict[str, str]) -> None:
    change(folder, **fields)
    assert "was made from other sources, or for another processor" in refused(folder)


def test_what_is_not_there_is_no_doubt(folder: Path) -> None:
    (folder / "cache" / CACHED).rename(folder / "away")
    found = find(MODULE)
    (folder / "away").rename(folder / "cache" / CACHED)
    assert (found.image, found.doubts) == (None, ())


def test_why_no_code_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unfit() is None
    ask = unfit.__wrapped__
    with monkeypatch.context() as change:
        change.setattr(store, "missing_features", lambda: frozenset(("movbe", "avx2")))
        assert ask() == "the processor lacks avx2, movbe of x86-64-v3"
    with monkeypatch.context() as change:
        change.setattr(store, "strange_layout", lambda: "flags")
        assert ask() == "arrays of this NumPy or Python are laid out in another way: flags"
    with monkeypatch.context() as change:
        change.setattr(store.sys, "platform", "darwin")
        assert "stored code is for x86-64 Linux" in ask()
    with monkeypatch.context() as change:
        change.setattr(store.sys.implementation, "name", "pypy")
        assert ask() == "this Python is pypy: stored code is for CPython"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"QUIRE_CACHE_DIR": "/one", "XDG_CACHE_HOME": "/two"}, "/one"),
        ({"QUIRE_CACHE_DIR": "", "XDG_CACHE_HOME": "/two"}, "/two/quire"),
        ({"HOME": "/home/me"}, "/home/me/.cache/quire"),
    ],
)
def test_the_folder_is_named_by_the_environment(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUIRE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder.__wrapped__()) == expected
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("QUIRE_CACHE_DIR", "here")
    assert str(cache_folder.__wrapped__()) == "/usr/here"


def test_names_in_the_cache_tell_sources_apart() -> None:
    names = {file_name(module) for module in MODULES}
    assert len(names) == len(MODULES)
    assert file_name(MODULE) == f"{MODULE}-{fingerprint(MODULE)[:16]}"
