"""The options of every verb's answer: a table for people or, with --json, the record; -o says where it goes."""

from collections.abc import Callable
from typing import Any

import click

__all__ = ["answer_options"]


def answer_options(stream: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command `as_json` and `output`; by default the answer goes to `stream`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        where = f"Write the answer there, not to {stream}" + ("; - is stdout." if stream == "stderr" else ".")
        command = click.option("-o", "--output", metavar="FILE", help=where)(command)
        as_json = "Write the record as JSON instead of the table."
        return click.option("--json", "as_json", is_flag=True, help=as_json)(command)

    return decorate
