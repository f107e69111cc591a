"""Options and the final tables of the benchmarks. Run: ``python -m pytest bench -q`` (see docs/performance.md).

Each benchmark adds tables; they are printed behind the run, with the machine's load when it began and ended.
Nothing here asserts on time: a figure that misses its target is printed, not failed.
"""

import os
from collections.abc import Iterator

import pytest
from measure import TABLES, print_tables


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --small: inputs that show that a benchmark works, in seconds, not what Quire's speed is."""
    parser.addoption(
        "--small", action="store_true", help="small inputs: a check of the benchmarks themselves"
    )
    parser.addoption(
        "--rounds", type=int, default=3, help="runs of each subject; the median counts (default 3)"
    )


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest) -> bool:
    """Whether inputs are to be small."""
    return bool(request.config.getoption("--small"))


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """How often each subject runs."""
    return int(request.config.getoption("--rounds"))


@pytest.fixture(autouse=True)
def load_noted(benchmark) -> Iterator[None]:  # type: ignore[no-untyped-def]
    """Store the machine's load average before and after with the figures."""
    before = os.getloadavg()[0]
    yield
    benchmark.extra_info["load_average"] = [round(before, 2), round(os.getloadavg()[0], 2)]
    if TABLES:
        TABLES[-1].caption = f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after"


def pytest_terminal_summary() -> None:
    """Print the tables that the benchmarks made."""
    print_tables()
