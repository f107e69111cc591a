"""One program under many schedules: which outcomes there are, and which schedule shows each.

A schedule says when each task's turn ends, at any instruction, and who is next; all else, the seed's randomness and the
guest's time among it, is the same. So what differs between two of them depends on the order in which tasks run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from quire.guest.run_spec import RunSpec
from quire.study.runner import Running
from quire.version import __version__

__all__ = ["SCHEMA", "Schedule", "schedules_record"]

#: Version of the record's shape; grows when a field changes its meaning or goes.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of this number, as a way to run a program."""

    number: int

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"schedule {self.number}"

    def apply(self, spec: RunSpec) -> RunSpec:
        """Return the run under this schedule."""
        return replace(spec, schedule=self.number)


def schedules_record(
    spec: RunSpec, runs: Sequence[Running[Schedule]], asked: int, *, partial: bool
) -> dict[str, Any]:
    """Return the outcomes of `runs`, of `asked` that were to be made, the most frequent first.

    Two runs have one outcome when status, signal and standard output are the same.
    """
    groups: dict[tuple[Any, ...], list[Running[Schedule]]] = {}
    for one in runs:
        outcome = one.record["outcome"]
        groups.setdefault((outcome["status"], outcome["signal"], one.stdout_sha256), []).append(one)
    found = sorted(groups.items(), key=lambda item: (-len(item[1]), item[1][0].configuration.number))
    return {
        "schema": SCHEMA,
        "quire": __version__,
        "command": spec.recorded_command,
        "seed": spec.seed,
        "schedules": len(runs),
        "asked": asked,
        "partial": partial,
        "outcomes": [
            {
                "count": len(members),
                "first": members[0].configuration.number,
                "status": status,
                "signal": signal,
                "stdout": {
                    "bytes": members[0].stdout_bytes,
                    "sha256": digest,
                    "start": members[0].stdout_start.decode("utf-8", "replace"),
                },
            }
            for (status, signal, digest), members in found
        ],
    }
