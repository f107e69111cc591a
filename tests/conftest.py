"""What holds for every test: helper modules by name, kernels compiled before, and nothing changed afterwards."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from limits import PATIENCE, pytest_configure
from sampling import EVERY_CASE, WHOLE, few
from surroundings import children, differences, files, put_back, surroundings

from quire.kernels.store import cache_folder

__all__ = ["pytest_configure", "pytest_sessionstart"]

for folder in Path(__file__).parent.iterdir():
    if folder.is_dir() and not folder.name.startswith((".", "_")):
        sys.path.insert(0, str(folder))

import native  # noqa: E402

# No example has a deadline. A sample has the same examples in every run, a whole run looks for new ones.
quick = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("sample", max_examples=30, derandomize=True, **quick)
settings.register_profile("whole", max_examples=300, **quick)
settings.load_profile("whole" if WHOLE else "sample")

# Each of many processes would compile all of Quire's source anew, and rewrite the assertions of all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Whatever home a test gives a command, its kernels are compiled.
os.environ.setdefault("QUIRE_CACHE_DIR", str(cache_folder()))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before workers start, all kernels are compiled, if their sources have changed.

    Then one process has all of Quire loaded, and forks for the commands that tests of all workers run.
    """
    if getattr(session.config.option, "numprocesses", None):
        subprocess.run([sys.executable, "-m", "quire", "warm"], timeout=4 * PATIENCE, check=True)
        os.environ[native.SERVER] = native.start_server()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run few cases of each test, unless all are asked for, or some by name."""
    option = config.option
    if EVERY_CASE or option.keyword or option.markexpr or any("::" in one for one in config.args):
        return
    kept = list(few([item.nodeid for item in items]))
    dropped = [item for item, keep in zip(items, kept, strict=True) if not keep]
    items[:] = [item for item, keep in zip(items, kept, strict=True) if keep]
    config.hook.pytest_deselected(items=dropped)


BEFORE = pytest.StashKey[dict[str, object]]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[BEFORE] = surroundings()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test, by its name, after which anything around it is not as it was before."""
    result = yield
    before, after = item.stash[BEFORE], surroundings()
    if before != after:
        put_back(before, after)
        pytest.fail("the test changed\n" + "\n".join(differences(before, after)), pytrace=False)
    return result


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_over() -> Iterator[None]:
    """Fail the last test if processes still run that tests started, or files are in the repository that were not."""
    before = files()
    yield
    left = [f"process {one}" for one in children()] + [f"file {one}" for one in sorted(files() - before)]
    assert not left, "tests left\n" + "\n".join(left)
