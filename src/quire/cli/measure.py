"""Running a program once under each of several settings, for the verbs that compare: progress, input, interruptions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import click

from quire.cli.interruption import Interrupted, told_of_interruptions
from quire.cli.notices import say
from quire.cli.output import write_bytes
from quire.errors import CANNOT_SET_UP

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec
    from quire.study.runner import Running, Setting

__all__ = ["Measured", "measure"]

Chosen = TypeVar("Chosen", bound="Setting")
_UNREAD = 141


@dataclass(frozen=True, slots=True)
class Measured(Generic[Chosen]):
    """What the runs left that ended, in order, and the exit status: that of the first, unless somebody interrupted."""

    runs: "list[Running[Chosen]]"
    status: int
    partial: bool  #: whether it was interrupted, and runs are missing


def measure(verb: str, spec: "RunSpec", asked: Sequence[Chosen], jobs: int) -> Measured[Chosen] | int:
    """Return what the runs left, or the status to exit with when there is nothing to compare."""
    from quire.report.progress import open_progress
    from quire.study import RunFailed, run_all

    finished: dict[str, Running[Chosen]] = {}  # by name
    try:
        with told_of_interruptions(), open_progress(f"quire {verb}", len(asked)) as step:

            def done(left: "Running[Chosen]") -> None:
                if not left.record["outcome"]["partial"]:  # a terminal interrupts the runs as well
                    finished[left.configuration.name] = left
                step(left.configuration.name)

            runs = run_all(spec, asked, jobs=jobs, source=_input(), show=write_bytes, done=done)
            return Measured(runs, int(runs[0].record["outcome"]["status"]), partial=False)
    except RunFailed as failure:
        say(f"quire {verb}: {failure}")
        return failure.status if failure.status > 0 else CANNOT_SET_UP
    except BrokenPipeError:
        say(f"quire {verb}: nobody reads what the program writes, no comparison was made")
        return _UNREAD
    except OSError as error:
        what = error.strerror or str(error)
        raise click.ClickException(f"{verb}: the program's output could not be kept: {what}") from None
    except Interrupted as end:
        kept = [finished[one.name] for one in asked if one.name in finished]
        what = f"{len(kept)} of {len(asked)} runs had ended" if kept else "no comparison was made"
        say(f"quire {verb}: {end.words}, {what}")
        return Measured(kept, end.status, partial=True) if kept else end.status


def _input() -> int | None:
    """Return the descriptor of standard input, None where there is none or it is a terminal."""
    try:
        return None if os.isatty(0) or not os.fstat(0) else 0
    except OSError:
        return None
