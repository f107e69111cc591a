"""A stock kernel for the tests of booting: fetched once for all workers, or the reason why it cannot be had."""

import fcntl
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load_example(name: str) -> ModuleType:
    """Return the example `name` as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def debian() -> ModuleType:
    """Return the example that fetches kernels and makes initial RAM disks."""
    return load_example("boot_debian")


@pytest.fixture(scope="session")
def kernel(debian: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Debian's kernel for clouds; skip where it cannot be fetched."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "kernel"
    shared.mkdir(exist_ok=True)
    place, refused = shared / "vmlinuz", shared / "refused"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists() and not refused.exists():
            try:
                shutil.copy(debian.fetch_kernel(shared), place)
            except debian.Unavailable as why:
                refused.write_text(str(why))
    if refused.exists():
        pytest.skip(f"no stock kernel can be had: {refused.read_text()}")
    return place


@pytest.fixture(scope="session")
def initrd(debian: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an initial RAM disk of busybox whose shell is at the console."""
    try:
        place: Path = debian.make_initrd(tmp_path_factory.mktemp("initrd"))
    except debian.Unavailable as why:
        pytest.skip(str(why))
    return place
