"""Files that a user writes by hand, TOML, JSON or rows of numbers: read up to a size, parsed up to a depth.

Whatever is in them, what is wrong with them is a FormatError of one line. A number has at most 64 bits, as everything
in Quire that a file can name.
"""

import codecs
import sys
import tomllib
from typing import Any, BinaryIO

from quire.errors import FormatError

__all__ = ["LARGEST_FILE", "parse_json", "parse_toml", "read_log", "read_text", "strict_text"]

LARGEST_FILE = 16 << 20  #: bytes; no such file needs a hundredth of it, and a device never ends
_BITS = 64
_HEAD = 1024  # bytes; text of a dump in UTF-16 has zeros in each line
_FAR = 1 << _BITS
_Document = dict[str, Any]


def read_text(path: str, title: str) -> str:
    """Return what is in the file at `path`, which messages call `title`. Raises OSError, FormatError."""
    with open(path, "rb") as file:
        content = _read(file, title)
    return _decoded(content, title)


def strict_text(log: str, title: str) -> str:
    """Return a log that is text throughout. Raises FormatError if it has bytes that are no UTF-8."""
    return _decoded(log.encode(errors="surrogateescape"), title)


def _decoded(content: bytes, title: str) -> str:
    try:
        return content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise FormatError(f"{title} is not UTF-8 text: {error.reason}") from None


def _encoding(content: bytes) -> str:
    """Return the encoding that a byte order mark names, as PowerShell writes one before UTF-16; else UTF-8."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked and b"\0" in content[:_HEAD] else "utf-8"


def read_log(path: str, title: str) -> str:
    """Return what is in a log, ``-`` for stdin: bytes that are no UTF-8, as a console writes them, are kept escaped.

    Raises OSError, FormatError.
    """
    if path == "-":
        content = _read(sys.stdin.buffer, title)
    else:
        with open(path, "rb") as file:
            content = _read(file, title)
    encoding = _encoding(content)
    return content.decode(encoding, errors="surrogateescape" if encoding == "utf-8" else "replace")


def _read(file: BinaryIO, title: str) -> bytes:
    content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise FormatError(f"{title} has more than {LARGEST_FILE >> 20} MiB: give a smaller file")
    return content


def parse_toml(text: str, title: str) -> _Document:
    """Return what the TOML `text` says. Raises FormatError."""
    return _parsed(lambda: tomllib.loads(text), title, "TOML")


def parse_json(text: str, title: str) -> _Document:
    """Return what the JSON object `text` says. Raises FormatError."""
    import json

    return _parsed(lambda: json.loads(text), title, "JSON")


def _parsed(parse: Any, title: str, form: str) -> _Document:
    try:
        found = parse()
    except RecursionError:
        raise FormatError(f"{title} nests tables or lists too deeply: no key needs more than a few") from None
    except ValueError as error:  # each parser's own is one, and that of a number with thousands of digits
        raise FormatError(f"{title} is not {form}: {_why(error)}") from None
    if not isinstance(found, dict):
        raise FormatError(f"{title} is no table of names and values: begin with a name")
    _check_numbers(found, title)
    return found


def _why(error: ValueError) -> str:
    if "integer string conversion" in str(error):
        return f"a number has thousands of digits, and at most {_BITS} bits are a number here"
    return str(error)


def _check_numbers(document: _Document, title: str) -> None:
    """Refuse numbers that no field holds, by the name of the key. As deep as the parser went: no recursion."""
    waiting: list[tuple[str, Any]] = list(document.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}", one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{name}[{number}]", one) for number, one in enumerate(value)]
        elif isinstance(value, int) and not -_FAR < value < _FAR:
            raise FormatError(f"{title}: {name} has more than {_BITS} bits: give at most {_FAR - 1:#x}")
