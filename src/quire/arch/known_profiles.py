"""The CPU profiles that come with Quire, found by name, and those that users bring in files of their own."""

import os.path
from dataclasses import replace
from functools import cache

from quire.arch.capabilities import ARCHITECTURE_VMX
from quire.arch.profile import EPT_VPID_CAP, CpuProfile
from quire.arch.profile_file import parse_profile
from quire.documents import read_text
from quire.errors import MisuseError, did_you_mean

__all__ = ["ARCHITECTURE", "SKYLAKE_X", "profile_by_name", "profile_names"]

_SUFFIX = ".toml"
#: Neither importlib.resources nor pathlib: this runs whenever Quire starts, and importing them takes longer.
_FOLDER = os.path.join(os.path.dirname(__file__), "profiles")
#: In the order in which help texts list them.
_FILES = ("skylake-x", "icelake-sp", "sapphire-rapids", "zen2", "zen3", "zen4", "ideal", "none")


@cache
def _shipped(name: str) -> CpuProfile:
    with open(os.path.join(_FOLDER, name + _SUFFIX), encoding="utf-8") as file:
        return parse_profile(file.read(), name)


#: What is modelled where nobody says otherwise.
SKYLAKE_X = _shipped("skylake-x")

# No product has exactly these: what a study or a conformance suite needs to reach every rule that Quire models.
ARCHITECTURE = replace(
    SKYLAKE_X,
    name="architecture",
    title="Every rule, Skylake's TLBs",
    aliases=(),
    maxphyaddr=52,
    linear_bits=57,
    vmx=ARCHITECTURE_VMX,
    ept_caps=SKYLAKE_X.ept_caps | EPT_VPID_CAP.mask("walk_length_5", "sss"),
    source="assumption: no product has exactly these widths and VMX capabilities",
)


def profile_names() -> tuple[str, ...]:
    """Return the names of all profiles, in the order in which help texts list them; aliases are not among them."""
    return (*_FILES, ARCHITECTURE.name)


@cache
def profile_by_name(name: str) -> CpuProfile:
    """Return the profile called `name`, ``skylake-x`` for instance, or by an alias, or the one in the file `name`.

    What has a slash or ends in .toml is a file; it is read once in a process. Raises MisuseError, with the closest
    name, if there is none, or the file cannot be read; FormatError for a wrong file.
    """
    if "/" in name or name.endswith(_SUFFIX):
        return _read(name)
    if name in _FILES:
        return _shipped(name)
    if name == ARCHITECTURE.name:
        return ARCHITECTURE
    by_alias = {alias: file for file in _FILES for alias in _shipped(file).aliases}
    if name in by_alias:
        return _shipped(by_alias[name])
    raise MisuseError(
        f"No CPU profile is called {name!r}{did_you_mean(name, (*profile_names(), *by_alias))}: "
        f"there is {', '.join(profile_names())}, or give a file that ends in {_SUFFIX}"
    )


def _read(name: str) -> CpuProfile:
    try:
        text = read_text(name, f"CPU profile {name!r}")
    except OSError as error:
        raise MisuseError(
            f"CPU profile {name!r} cannot be read: {error.strerror}: give a file, or one of "
            f"{', '.join(profile_names())}"
        ) from error
    return parse_profile(text, name)
