"""Files that a verb writes its results to: opened before the work begins, so that no result is lost to a bad name."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import IO, Any, BinaryIO

import click

from quire.cli.output import write_answer, write_bytes
from quire.errors import MissingPackageError

__all__ = ["Outputs", "check_form", "picture_form"]

_STDOUT = "-"
#: What a file of each option has in it, how its name may end, and the package that writes it. A name without a suffix
#: is nobody's business.
_PICTURE = ("SVG, PNG or PDF", (".svg", ".png", ".pdf"), "matplotlib")
_FORMS = {
    "--plot": _PICTURE,
    "--heat-map": _PICTURE,
    "--html": ("HTML", (".html", ".htm"), "matplotlib"),
    "--parquet": ("Parquet", (".parquet", ".pq"), "pyarrow"),
}


def check_form(verb: str, option: str, name: str) -> None:
    """Refuse a `name` that promises another form than that of what `option` writes, and a package that is not there.

    Raises click.UsageError for the first, click.ClickException for the second.
    """
    form, suffixes, package = _FORMS.get(option, ("", (), ""))
    suffix = os.path.splitext(name)[1].lower()
    if form and suffix and suffix not in suffixes:
        names = " or ".join((", ".join(suffixes[:-1]), suffixes[-1]))
        raise click.UsageError(
            f"{option} writes {form}, and {name!r} says otherwise: give a name that ends in {names}"
        )
    if package and find_spec(package) is None:
        raise click.ClickException(f"{verb}: {MissingPackageError(option, package)}")


def picture_form(name: str) -> str:
    """Return the form of the picture in the file `name`, which check_form allowed: by its suffix, else svg."""
    return os.path.splitext(name)[1].lower().removeprefix(".") or "svg"


class Outputs:
    """The files that options named, ``-`` for stdout. Raises ClickException for one that cannot be written."""

    def __init__(self, verb: str, names: Mapping[str, str | None]) -> None:
        self._verb = verb
        self._files: dict[str, BinaryIO | None] = {}  # None is stdout
        asked = {option: name for option, name in names.items() if name is not None}
        to_stdout = [option for option, name in asked.items() if name == _STDOUT]
        if len(to_stdout) > 1:
            raise click.UsageError(
                f"{' and '.join(to_stdout)} are all -, and stdout takes one: give files for the others"
            )
        for option, name in asked.items():
            check_form(verb, option, name)
        for option, name in asked.items():
            try:
                self._files[option] = None if name == _STDOUT else _open(name)
            except OSError as error:
                raise click.ClickException(
                    f"{verb}: cannot write {option} to {name!r}: {error.strerror}; choose another file"
                ) from None

    def __contains__(self, option: str) -> bool:
        """Whether the option was given."""
        return option in self._files

    @property
    def takes_stdout(self) -> bool:
        """Whether one of the options took stdout."""
        return None in self._files.values()

    def answer(
        self, record: Any, render: Callable[[Any, IO[str]], object], *, as_json: bool, default: IO[str] | None
    ) -> None:
        """Write what a verb answers, as JSON or as `render` shows it: to -o, or `default`, None for nobody.

        Raises ClickException when it cannot be written, but not when nobody reads on.
        """
        from quire.report.page import render_json

        def write(file: IO[str]) -> object:
            return file.write(render_json(record)) if as_json else render(record, file)

        if "--output" in self._files:
            text = io.StringIO()
            write(text)
            self.write("--output", text.getvalue())
        elif default is sys.stdout:
            write_answer(self._verb, write)
        elif default is not None:
            write(default)

    def write(self, option: str, data: bytes | str) -> None:
        """Write `data` to the file of `option` and close it."""
        raw = data.encode(errors="backslashreplace") if isinstance(data, str) else data
        file = self._files[option]
        try:
            if file is None:
                write_bytes(raw)
            else:
                with file:
                    file.write(raw)
        except BrokenPipeError:
            pass  # a reader that leaves is no error
        except OSError as error:
            raise click.ClickException(
                f"{self._verb}: {option} could not be written: {error.strerror}"
            ) from None


def _open(name: str) -> BinaryIO:
    return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666), "wb")
