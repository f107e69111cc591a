"""One line on stderr before the first use compiles kernels, so that nobody takes the wait for a hang."""

import click

__all__ = ["say_if_compiling"]


def say_if_compiling() -> None:
    """Have it said, once and at that time, when a kernel is compiled in what follows."""
    from quire.kernels import before_compiling

    before_compiling(lambda: click.echo("quire: compiling kernels (once, up to a minute)", err=True))
