"""The report of a failure that nobody foresaw: a file with all that its repair needs, and one line that names it."""

import os
import platform
import tempfile
import traceback
from collections.abc import Sequence

__all__ = ["crash_line"]


def crash_line(error: BaseException, version: str, argv: Sequence[str]) -> str:
    """Write the report of `error` to a new file, which its owner alone may read; return the line that says so."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="quire-crash-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_text(error, version, argv))
    except OSError as failure:
        where = f"there is no more about it, for no file could be written: {failure.strerror}"
    else:
        where = f"please report it, with the file {path}"
    return f"unexpected {type(error).__name__}, a bug in Quire: {where}"


def _text(error: BaseException, version: str, argv: Sequence[str]) -> str:
    facts = {
        "quire": version,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "command": repr(list(argv)),
    }
    lines = [f"{name:<8} {value}\n" for name, value in facts.items()]
    return "".join([*lines, "\n", *traceback.format_exception(error)])
