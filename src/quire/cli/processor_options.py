"""Options that say what processor a value comes from, where a profile alone does not: its width, its capabilities."""

from collections.abc import Callable
from typing import Any

import click

__all__ = ["maxphyaddr_option", "width_of"]

_LEAST, _MOST = 32, 52  # SDM 3A §4.1.4


def maxphyaddr_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--maxphyaddr``, physical-address bits of one machine: models of one name differ in them."""
    return click.option(
        "--maxphyaddr", type=click.IntRange(_LEAST, _MOST), metavar="N",
        help="Physical-address bits of the machine, as CPUID 80000008H says; the profile's otherwise.",
    )(command)  # fmt: skip


def width_of(profile: str | None, maxphyaddr: int | None) -> int | None:
    """Return the physical-address width that the options give, None if they give none."""
    if maxphyaddr is not None or profile is None:
        return maxphyaddr
    from quire.arch.known_profiles import profile_by_name

    return profile_by_name(profile).maxphyaddr
