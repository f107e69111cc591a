"""Which suites there are: Quire's own, those of installed packages, those of a file that a user names.

A package offers suites by an entry point of the group ``quire.suites`` that names a function without arguments which
returns suites. A file is plain Python; every :class:`Suite` bound at its top level is taken.
"""

import importlib
import runpy
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path

from quire.errors import FormatError, MisuseError, did_you_mean
from quire.testing.suite import Suite

__all__ = ["choose", "known_suites", "load_file"]

_OWN = (
    "walk_matrix",
    "reserved_bits",
    "random_walks",
    "unicorn_mmu",
    "kvm_mmu",
    "bochs_ept",
    "bochs_entry",
    "instructions",
    "counts",
)


def known_suites(files: Iterable[Path] = ()) -> list[Suite]:
    """Return every suite: own, of installed packages, of `files`. Raises MisuseError for two of one name."""
    found: list[Suite] = []
    for name in _OWN:
        module = importlib.import_module(f"quire.testing.suites.{name}")
        found.extend(module.SUITES)
    for point in sorted(entry_points(group="quire.suites"), key=lambda one: one.name):
        found.extend(point.load()())
    for path in files:
        found.extend(load_file(path))
    names = [suite.name for suite in found]
    for name in names:
        if names.count(name) > 1:
            raise MisuseError(f"Two suites are called {name!r}: rename one of them")
    return found


def load_file(path: Path) -> list[Suite]:
    """Return the suites bound at the top level of a Python file. Raises FormatError if it has none or cannot run."""
    try:
        names = runpy.run_path(str(path))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        raise FormatError(f"{path} is not Python: {error.msg}, line {error.lineno}") from None
    suites = [value for value in names.values() if isinstance(value, Suite)]
    if not suites:
        raise FormatError(f"{path} binds no suite at its top level: write NAME = quire.testing.Suite(...)")
    return suites


def choose(suites: list[Suite], names: Iterable[str], pattern: str = "*") -> list[Suite]:
    """Return the suites called `names`, all if there are none, with the cases whose name matches `pattern`.

    Patterns are those of a shell. Raises MisuseError for a name that nothing has and a pattern that no case matches.
    """
    known = {suite.name: suite for suite in suites}
    wanted = list(names)
    for name in wanted:
        if name not in known:
            close = did_you_mean(name, list(known))
            raise MisuseError(f"No suite is called {name!r}{close}: see quire check --list")
    chosen = [known[name] for name in wanted] if wanted else suites
    if pattern == "*":
        return chosen
    parts = [
        replace(suite, cases=[case for case in suite.cases if fnmatchcase(case.name, pattern)])
        for suite in chosen
    ]
    found = [part for part in parts if part.cases]
    if not found:
        raise MisuseError(
            f"No case of {', '.join(one.name for one in chosen)} matches {pattern!r}: see --list"
        )
    return found
