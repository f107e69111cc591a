"""Points of failure: where an allocation, a mapping or a call to the host may fail, and how a test makes it fail.

A place that may fail says so by :func:`reach`, guarded by ``if failpoints.armed is not None``, so that a run without a
plan pays one comparison. An armed :class:`FailurePlan` counts what is reached and fails one of them, by its ordinal:
the error is the place's own, which its callers have to expect. Users' hypervisors may have points of their own.
"""

from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from quire.errors import MisuseError

__all__ = ["FailurePlan", "reach"]


class FailurePlan:
    """Fails the `ordinal`-th point of failure reached while this is the armed plan (from 1; None only counts).

    `sites` narrows it to points of those names. A context manager: armed inside. Plans do not nest: MisuseError.
    """

    def __init__(self, ordinal: int | None = None, sites: Collection[str] | None = None) -> None:
        if ordinal is not None and ordinal < 1:
            raise MisuseError(f"No point of failure has ordinal {ordinal}: the first that is reached has 1")
        self.ordinal, self.sites = ordinal, sites
        self.reached = 0  #: points met so far
        self.by_site: dict[str, int] = {}  #: how many of each name
        self.error: Exception | None = None  #: what was raised, None while nothing was
        self.failed_site = ""  #: the name of the point that failed

    def reach(self, site: str, error: Callable[[], Exception]) -> None:
        """Count a point called `site`; raise its `error` if it is the one that is to fail."""
        if self.sites is not None and site not in self.sites:
            return
        self.reached += 1
        self.by_site[site] = self.by_site.get(site, 0) + 1
        if self.reached == self.ordinal:
            self.error, self.failed_site = error(), site
            raise self.error

    def __enter__(self) -> Self:
        global armed
        if armed is not None:
            raise MisuseError("A failure plan is armed already: leave its with block first")
        armed = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global armed
        armed = None

    def __repr__(self) -> str:
        return f"FailurePlan({self.ordinal}, {self.sites!r})"


#: The plan in force, or None.
armed: FailurePlan | None = None


def reach(site: str, error: Callable[[], Exception]) -> None:
    """Say that a point of failure called `site` is reached; it raises `error()` if the armed plan wants that."""
    if armed is not None:
        armed.reach(site, error)
