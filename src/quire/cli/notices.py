"""Lines on stderr: refusals, deaths, and what a person should know while a verb works."""

from collections.abc import Callable

import click

from quire.report.shown import brief, shown_lines

__all__ = ["say", "say_if_compiling", "teller"]


def say(text: str) -> None:
    """Write `text` to stderr as a person may see it: nothing in it is an order to the terminal, no value fills it."""
    click.echo(brief(shown_lines(text)), err=True)


def say_if_compiling() -> None:
    """Have it said, once and at that time, when a kernel is compiled in what follows: nobody takes it for a hang."""
    from quire.kernels import before_compiling
    from quire.report.progress import open_progress

    before_compiling(lambda line: say(f"quire: {line}"), open_progress)


def teller(verb: str) -> Callable[[str], None]:
    """Return what writes a line in the name of `verb`."""
    return lambda line: say(f"quire {verb}: {line}")
