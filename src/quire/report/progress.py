"""How far a long command has come, on a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quire.report.shown import shown

__all__ = ["open_progress"]


@contextmanager
def open_progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Give a function to call with the name of each of `total` steps that has ended; the line goes at the end.

    Nothing is shown before the first step has ended, so that what it prints stays whole.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    progress = Progress(console=Console(file=sys.stderr), transient=True)
    task = progress.add_task(title, total=total)

    def step(name: str) -> None:
        progress.update(task, advance=1, description=escape(shown(f"{title}: {name}")))
        progress.start()

    try:
        yield step
    finally:
        progress.stop()
