"""Files of a verb that runs a guest: opened before it runs, above the descriptors that the guest sees."""

import io
import os
import sys
from collections.abc import Callable
from typing import IO

import click

from quire.guest.own_process import move_high

__all__ = ["open_file", "open_report", "open_text", "write_text"]


def open_report(output: str | None) -> IO[str]:
    """Open the report's file: `output`, ``-`` for stdout, None for stderr. Raises click.ClickException."""
    if output is not None:
        return open_text(output, "report", "-o")
    try:
        return _text(move_high(2, close=False))
    except OSError:
        return io.StringIO()  # stderr is closed: nobody wants the report


def open_text(name: str, what: str, option: str) -> IO[str]:
    """Open the file that `option` names for text, ``-`` for stdout. Raises click.ClickException."""
    if name != "-":
        return _text(open_file(name, what, option))
    try:
        return _text(move_high(1, close=False))
    except OSError as error:
        raise _cannot_write(what, name, error, option) from None


def open_file(name: str, what: str, option: str) -> int:
    """Open `name` for writing and return its descriptor. Raises click.ClickException."""
    try:
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        moved = move_high(opened)
    except OSError as error:
        raise _cannot_write(what, name, error, option) from None
    return moved


def write_text(file: IO[str], what: str, write: Callable[[IO[str]], object]) -> None:
    """Have `write` fill `file`, and close it. A reader that leaves is no error; another failure is one line."""
    try:
        write(file)
        file.close()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except OSError as error:
        click.echo(f"quire {_verb()}: the {what} could not be written: {error.strerror}", err=True)


def _verb() -> str:
    return str(click.get_current_context().info_name)


def _cannot_write(what: str, name: str, error: OSError, option: str) -> click.ClickException:
    return click.ClickException(
        f"{_verb()}: cannot write the {what} to {name!r}: {error.strerror}; choose another {option} FILE"
    )


def _text(fd: int) -> IO[str]:
    return os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace")
