"""How long a test waits for a process before it takes it to hang: no test depends on how fast the machine is.

The limit of a whole test is in pyproject.toml; conftest.py takes the hook below for all tests.
"""

import pytest

#: Seconds. Ten times what the slowest takes on a slow machine.
PATIENCE = 300.0


def pytest_configure(config: pytest.Config) -> None:
    """No worker replaces one that the limit ended: pytest-xdist would give it the same group, and hang itself."""
    if hasattr(config.option, "maxworkerrestart"):
        config.option.maxworkerrestart = "0"
