"""The exception roots of Quire, four kinds told apart by who has to act, and the statuses that failures exit with.

A guest's fault is never an exception here: a page fault or an EPT violation is a *value* that a walk returns.
What is raised is one of these, each a subclass of the built-in that a caller who does not know Quire would
catch anyway.

==================  ================  ==========================================================
exception           built-in          who acts
==================  ================  ==========================================================
``MisuseError``     ``ValueError``    the caller: the call itself is wrong
``FormatError``     ``ValueError``    whoever made the input: an ELF, a trace, a snapshot
``BackendError``    ``OSError``       whoever runs the machine: it lacks something (``/dev/kvm``)
``InternalError``   ``RuntimeError``  us: report it
==================  ================  ==========================================================
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CANNOT_SET_UP",
    "EXTRAS",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "BackendError",
    "FormatError",
    "InternalError",
    "MissingPackageError",
    "MisuseError",
    "did_you_mean",
]

#: Exit statuses of a command that runs another one and fails itself, as shells, env and timeout have them.
CANNOT_SET_UP, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

_REPORT = "This is a bug in Quire: please report it."


class MisuseError(ValueError):
    """A call that breaks the contract of Quire's API: the caller has to change the call."""


class FormatError(ValueError):
    """Input from outside that is not what its format promises: an ELF file, a trace, a snapshot."""


class BackendError(OSError):
    """Something that this machine lacks or refuses: ``/dev/kvm``, huge pages, a NUMA node."""


#: Packages that a part of the work needs, and which of Quire's extras installs each.
EXTRAS = {"matplotlib": "plot", "pyarrow": "parquet", "cryptography": "secure"}


class MissingPackageError(BackendError):
    """A package of ``EXTRAS`` is not installed, and what was asked for needs it."""

    def __init__(self, work: str, package: str) -> None:
        super().__init__(
            f"{work} needs the package {package!r}, which is not installed: pip install 'quire-vm[{EXTRAS[package]}]'"
        )


class InternalError(RuntimeError):
    """A state that Quire promises never to reach. The message always ends by asking for a report."""

    def __init__(self, message: str) -> None:
        # Unpickling calls this again with the full text (a worker process handing its error to its parent).
        super().__init__(message if message.endswith(_REPORT) else f"{message} {_REPORT}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'X'?)`` for the name in `known` closest to `name`, or the empty string.

    Letter case is disregarded, so that ``rw`` finds ``RW``. Of two equally close names the first one wins,
    which keeps messages the same from run to run.
    """
    by_fold: dict[str, str] = {}
    for word in known:
        by_fold.setdefault(word.casefold(), word)
    close = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.5)
    return f" (did you mean {by_fold[close[0]]!r}?)" if close else ""
