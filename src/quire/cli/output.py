"""Answers on stdout: a reader that leaves is no error, a disk that is full is one line."""

import io
import sys
from collections.abc import Callable
from typing import IO

import click

__all__ = ["write_answer", "write_bytes"]


def write_answer(verb: str, write: Callable[[IO[str]], object]) -> None:
    """Call `write` with stdout. Raises ClickException when it cannot be written, but not when nobody reads on."""
    if sys.stdout is None:  # the descriptor was closed before Python began
        return
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        raise click.ClickException(f"{verb}: the answer could not be written: {error.strerror}") from None


def write_bytes(data: bytes) -> None:
    """Write `data` to stdout at once. Raises OSError when it cannot be, BrokenPipeError when nobody reads on."""
    if sys.stdout is None:
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    else:  # something that takes text was put in its place
        sys.stdout.write(data.decode(errors="replace"))
    sys.stdout.flush()
