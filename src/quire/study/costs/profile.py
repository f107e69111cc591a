"""A cost profile read from TOML: figures with sources, the caches that walks load from, the work of each VM exit.

Every key is required, but for the causes of exits that take the default; a key that is not known is an error, so that
a misspelt one does not silently cost nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from quire.arch import ExitReason
from quire.documents import parse_toml, read_text
from quire.errors import FormatError, MisuseError, did_you_mean

__all__ = ["Cache", "Costs", "Figure", "known_costs", "load_costs"]

_SUFFIX = ".toml"
_ASSUMPTION = "assumption"
_LARGEST = 1e12
_EVENTS = ("instruction", "tlb_l2_hit", "fault_delivery", "fault_work", "cleared_byte")
_CACHES = ("l1", "l2", "l3")
_DEFAULT = "default"
_PROFILES = "profiles"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number and where it comes from."""

    value: float
    source: str

    @property
    def is_assumption(self) -> bool:
        """Whether nobody published it, or not for this processor."""
        return _ASSUMPTION in self.source


@dataclass(frozen=True, slots=True)
class Cache:
    """One level of cache: `size` in bytes, the `share` of it that tables have, `latency` in cycles."""

    name: str
    size: Figure
    share: Figure
    latency: Figure

    @property
    def capacity(self) -> float:
        """Bytes of tables that it holds."""
        return self.size.value * self.share.value


@dataclass(frozen=True, slots=True)
class Costs:
    """A whole profile. Figures are in cycles but for sizes and shares of caches.

    `profiles` are the CPU profiles that they belong to, by name; where it is empty, they belong to whichever is asked.
    """

    name: str
    profiles: tuple[str, ...]
    instruction: Figure
    tlb_l2_hit: Figure
    fault_delivery: Figure
    fault_work: Figure
    cleared_byte: Figure
    round_trip: Figure
    work: Mapping[str, Figure]  #: of the hypervisor, by name of the exit reason; ``default`` for the others
    caches: tuple[Cache, ...]  #: nearest first
    local: Figure  #: a reference that no cache serves, on the walker's node
    remote: Figure  #: and on another
    figures: Mapping[str, Figure] = field(repr=False)  #: every figure by its path in the file

    def exit_cost(self, reason: str) -> float:
        """Return the cycles of one VM exit: out, the hypervisor's work for this cause, and in again."""
        return self.round_trip.value + self.work.get(reason, self.work[_DEFAULT]).value

    def memory_latency(self, remote_share: float) -> float:
        """Return the cycles of a reference to memory, of which `remote_share` are on another node.

        Raises MisuseError for a share outside 0 to 1.
        """
        if not 0 <= remote_share <= 1:
            raise MisuseError(f"A share of remote memory of {remote_share!r} does not exist: give 0 to 1")
        return (1 - remote_share) * self.local.value + remote_share * self.remote.value


def known_costs() -> list[str]:
    """Return the names of the profiles that come with Quire."""
    folder = resources.files(__package__)
    return sorted(item.name.removesuffix(_SUFFIX) for item in folder.iterdir() if item.name.endswith(_SUFFIX))


def load_costs(name: str) -> Costs:
    """Return the profile called `name`, or the one in the file `name`: what has a slash or ends in .toml is a file.

    Raises MisuseError for a name that is not known or a file that cannot be read, FormatError for a wrong file.
    """
    if "/" in name or name.endswith(_SUFFIX):
        try:
            text = read_text(name, f"Cost profile {name!r}")
        except OSError as error:
            raise MisuseError(f"Cost profile {name!r} cannot be read: {error.strerror}") from error
    elif name in known_costs():
        text = (resources.files(__package__) / (name + _SUFFIX)).read_text(encoding="utf-8")
    else:
        known = known_costs()
        raise MisuseError(
            f"No cost profile is called {name!r}{did_you_mean(name, known)}: there is {', '.join(known)}, "
            "or give a file that ends in .toml"
        )
    return _Reader(name, parse_toml(text, f"Cost profile {name!r}")).costs()


class _Reader:
    """Takes figures out of parsed TOML and says which key is wrong."""

    def __init__(self, name: str, tables: dict[str, Any]) -> None:
        self._name = name
        self._tables = tables
        self._figures: dict[str, Figure] = {}

    def costs(self) -> Costs:
        self._tables.setdefault(_PROFILES, [])
        self._table("", ("name", _PROFILES, "events", "exits", "cache", "memory"))
        if not isinstance(self._tables["name"], str):
            raise self._wrong("name", "is not a string: give the profile's name")
        self._table("events", _EVENTS)
        self._table("exits", ("round_trip", "work"))
        self._table("cache", _CACHES)
        self._table("memory", ("local", "remote"))
        return Costs(
            name=self._tables["name"],
            profiles=self._profiles(),
            **{event: self._figure(f"events.{event}") for event in _EVENTS},
            round_trip=self._figure("exits.round_trip"),
            work=self._work(),
            caches=tuple(self._cache(level) for level in _CACHES),
            local=self._figure("memory.local"),
            remote=self._figure("memory.remote"),
            figures=self._figures,
        )

    def _profiles(self) -> tuple[str, ...]:
        found = self._tables[_PROFILES]
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise self._wrong(
                _PROFILES, f"is {found!r}: give a list of CPU profiles by name, or leave it out for any"
            )
        return tuple(found)

    def _work(self) -> dict[str, Figure]:
        known = [_DEFAULT, *(reason.name for reason in ExitReason)]
        found = self._at("exits.work")
        if not isinstance(found, dict):
            raise self._wrong("exits.work", "is not a table: give one figure for each exit reason")
        for reason in found:
            if reason not in known:
                raise self._wrong(
                    f"exits.work.{reason}",
                    f"is no exit reason{did_you_mean(reason, known)}: rename or remove it",
                )
        if _DEFAULT not in found:
            raise self._wrong(f"exits.work.{_DEFAULT}", "is missing: give the work for every other cause")
        return {reason: self._figure(f"exits.work.{reason}") for reason in found}

    def _cache(self, level: str) -> Cache:
        self._table(f"cache.{level}", ("size", "share", "latency"))
        share = self._figure(f"cache.{level}.share", most=1.0)
        return Cache(
            level, self._figure(f"cache.{level}.size"), share, self._figure(f"cache.{level}.latency")
        )

    def _figure(self, path: str, most: float = _LARGEST) -> Figure:
        self._table(path, ("value", "source"))
        value, source = self._at(f"{path}.value"), self._at(f"{path}.source")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(f"{path}.value", f"is {value!r}, no number: give 0 to {most:g}")
        if not 0 <= value <= most:
            raise self._wrong(f"{path}.value", f"is {value!r}: give 0 to {most:g}")
        if not isinstance(source, str) or not source.strip():
            raise self._wrong(
                f"{path}.source", f"is empty: say who published it, or begin with {_ASSUMPTION!r}"
            )
        self._figures[path] = Figure(float(value), source)
        return self._figures[path]

    def _table(self, path: str, keys: tuple[str, ...]) -> None:
        """Check that the table at `path` has exactly `keys`."""
        found = self._at(path) if path else self._tables
        prefix = f"{path}." if path else ""
        if not isinstance(found, dict):
            raise self._wrong(path, f"is {found!r}, no table: give {', '.join(keys)}")
        for key in found:
            if key not in keys:
                raise self._wrong(
                    prefix + key, f"is not known{did_you_mean(key, keys)}: there is {', '.join(keys)}"
                )
        for key in keys:
            if key not in found:
                raise self._wrong(prefix + key, "is missing: add it")

    def _at(self, path: str) -> Any:
        found: Any = self._tables
        for key in path.split("."):
            found = found[key]
        return found

    def _wrong(self, path: str, what: str) -> FormatError:
        return FormatError(f"Cost profile {self._name!r}: {path} {what}")
