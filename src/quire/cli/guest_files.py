"""Files of a verb that runs a guest: opened before it runs, above the descriptors that the guest sees.

A file is emptied when there is something to write to it: what it held is not lost to a run that never began.
"""

import os
import sys
from collections.abc import Callable
from typing import IO, Any, AnyStr, BinaryIO, TypeVar
from weakref import WeakSet

import click

from quire.cli.notices import say
from quire.guest.own_streams import patient_stderr
from quire.own_descriptors import empty, move_high

__all__ = ["open_image", "open_picture", "open_report", "open_text", "write_file"]

_STDOUT = "-"
_File = TypeVar("_File", bound=IO[Any])
#: Files that an option named.
_named: "WeakSet[IO[Any]]" = WeakSet()


def open_report(output: str | None) -> IO[str]:
    """Open the report's file: `output`, ``-`` for stdout, None for stderr. Raises click.ClickException."""
    return patient_stderr() if output is None else open_text(output, "report", "-o")


def open_text(name: str, what: str, option: str) -> IO[str]:
    """Open the file that `option` names for text, ``-`` for stdout. Raises click.ClickException."""
    if name != _STDOUT:
        return _own(os.fdopen(_open(name, what, option), "w", encoding="utf-8", errors="backslashreplace"))
    if sys.stdout is None:
        raise _cannot_write(what, name, "standard output is closed", option)
    return sys.stdout


def open_picture(name: str, what: str, option: str) -> IO[bytes]:
    """Open the file that `option` names for a picture, ``-`` for stdout. Raises click.ClickException."""
    if name != _STDOUT:
        return _own(os.fdopen(_open(name, what, option), "wb"))
    return open_text(name, what, option).buffer  # type: ignore[attr-defined, no-any-return]


def open_image(name: str) -> BinaryIO:
    """Open the file that --save-image names. Raises click.ClickException."""
    return os.fdopen(_open(name, "image", "--save-image"), "wb")


def write_file(file: IO[AnyStr], what: str, write: Callable[[IO[AnyStr]], object]) -> None:
    """Have `write` fill `file`, and close it. A reader that leaves is no error; another failure is one line."""
    try:
        if file in _named:
            with file:
                empty(file.fileno())
                write(file)
        else:  # a stream of Quire's, into whose file others write too
            write(file)
            file.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        say(f"quire {_verb()}: the {what} could not be written: {error.strerror}")


def _own(file: _File) -> _File:
    """Return `file`, which an option named: it is emptied and closed when it is written."""
    _named.add(file)
    return file


def _open(name: str, what: str, option: str) -> int:
    """Open `name` for writing and return its descriptor, moved high. Raises click.ClickException."""
    try:
        return move_high(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise _cannot_write(what, name, error.strerror, option) from None
    except ValueError:  # a NUL byte
        raise _cannot_write(what, name, "no file can be called so", option) from None


def _verb() -> str:
    return str(click.get_current_context().info_name)


def _cannot_write(what: str, name: str, why: str | None, option: str) -> click.ClickException:
    return click.ClickException(
        f"{_verb()}: cannot write the {what} to {name!r}: {why}; choose another {option} FILE"
    )
