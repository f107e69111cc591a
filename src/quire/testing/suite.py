"""Suites of named cases: what a conformance test of a hypervisor is made of.

A suite compares two engines, or an engine and what the manual says; its `oracle` is the side that Quire did not
derive from itself. Cases are plain functions of the state that `setup` makes and of a :class:`Tally` that counts what
agreed. Fails with MisuseError for a name that is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quire.errors import MisuseError
from quire.testing.tally import Tally

__all__ = ["Case", "Setting", "Suite"]

CaseFunction = Callable[[Any, Tally], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run of suites is given: `seed` of every random choice; `whole`: all of a large space, not a sample."""

    seed: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One named case of a suite."""

    name: str
    function: CaseFunction


def _no_state(setting: Setting) -> Setting:
    return setting


def _nothing(state: Any) -> None:
    del state


@dataclass(slots=True)
class Suite:
    """A named suite. Register cases with :meth:`case`; `setup` and `teardown` surround each of them.

    `setup` gets the Setting and returns the state that the case sees (the Setting itself if there is none);
    `unavailable` returns why the suite cannot run on this machine, or an empty string.
    """

    name: str
    oracle: str
    title: str
    setup: Callable[[Setting], Any] = _no_state
    teardown: Callable[[Any], None] = _nothing
    unavailable: Callable[[], str] = str
    cases: list[Case] = field(default_factory=list)

    def case(self, name: str) -> Callable[[CaseFunction], CaseFunction]:
        """Register the decorated function as case `name`. Raises MisuseError if the suite has one of that name."""
        if any(case.name == name for case in self.cases):
            raise MisuseError(f"Suite {self.name} has a case {name!r} already: give this one another name")

        def register(function: CaseFunction) -> CaseFunction:
            self.cases.append(Case(name, function))
            return function

        return register
