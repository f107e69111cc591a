"""``quire run --schedules N``: a program under many schedules, and what differs."""

import os
import sys
from typing import TYPE_CHECKING

import click

from quire.cli.measure import measure
from quire.cli.outputs import Outputs

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec

__all__ = ["explore"]

#: More processes than this at a time only wait for each other.
_MOST_JOBS = 64


def explore(spec: "RunSpec", count: int, output: str | None, *, as_json: bool) -> int:
    """Run `spec` under schedules 0 to `count` - 1, and tell the outcomes; return 1 if there are several.

    Raises click.UsageError for a run that cannot have schedules.
    """
    from quire.report.schedules import render_schedules
    from quire.study.schedules import Schedule, schedules_record

    if spec.clock != "virtual":
        raise click.UsageError("--schedules compares runs of one time: leave out --clock host")
    outputs = Outputs("run", {"--output": output})
    left = measure(
        "run", spec, [Schedule(number) for number in range(count)], min(os.cpu_count() or 1, _MOST_JOBS)
    )
    if isinstance(left, int):
        return left
    record = schedules_record(spec, left.runs, count, partial=left.partial)
    outputs.answer(record, render_schedules, as_json=as_json, default=sys.stderr)
    if left.partial:
        return left.status
    return int(len(record["outcomes"]) > 1)
