"""Lines on stderr while a verb works: what a person should know at that time, not at the end."""

from collections.abc import Callable

import click

__all__ = ["say_if_compiling", "teller"]


def say_if_compiling() -> None:
    """Have it said, once and at that time, when a kernel is compiled in what follows: nobody takes it for a hang."""
    from quire.kernels import before_compiling

    before_compiling(lambda: click.echo("quire: compiling kernels (once, up to a minute)", err=True))


def teller(verb: str) -> Callable[[str], None]:
    """Return what writes a line in the name of `verb`."""
    return lambda line: click.echo(f"quire {verb}: {line}", err=True)
