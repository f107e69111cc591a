"""Running a program once under each of several settings, for the verbs that compare: progress, input, interruptions."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from quire.cli.output import write_bytes
from quire.errors import CANNOT_SET_UP

if TYPE_CHECKING:
    from quire.guest.run_spec import RunSpec
    from quire.study.runner import Chosen, Running

__all__ = ["measure"]

_INTERRUPTED, _UNREAD = 130, 141


def measure(
    verb: str, spec: "RunSpec", asked: "Sequence[Chosen]", jobs: int
) -> "list[Running[Chosen]] | int":
    """Return what the runs left, or the status to exit with when there is nothing to compare."""
    from quire.report.progress import open_progress
    from quire.study import RunFailed, run_all

    try:
        with _ending_on_sigterm(), open_progress(f"quire {verb}", len(asked)) as step:
            return run_all(
                spec, asked, jobs=jobs, source=_input(), show=write_bytes, done=lambda one: step(one.name)
            )
    except RunFailed as failure:
        click.echo(f"quire {verb}: {failure}", err=True)
        return failure.status if failure.status > 0 else CANNOT_SET_UP
    except BrokenPipeError:
        click.echo(f"quire {verb}: nobody reads what the program writes, no comparison was made", err=True)
        return _UNREAD
    except OSError as error:
        what = error.strerror or str(error)
        raise click.ClickException(f"{verb}: the program's output could not be kept: {what}") from None
    except KeyboardInterrupt:
        click.echo(f"quire {verb}: interrupted, no comparison was made", err=True)
        return _INTERRUPTED


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Have SIGTERM end the runs as Ctrl-C does: none is left behind."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _input() -> int | None:
    """Return the descriptor of standard input, None where there is none or it is a terminal."""
    try:
        return None if os.isatty(0) or not os.fstat(0) else 0
    except OSError:
        return None
