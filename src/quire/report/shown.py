"""Text from outside as a person may see it: names, arguments and symbols are data, not orders to a terminal.

Escaped are what moves a cursor or changes colours (C0, DEL, C1), what reorders a line (bidirectional controls), what
ends one (U+2028, U+2029), and halves of characters that no encoding has. Every report and every message goes through
here; JSON escapes by itself.
"""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["brief", "cleaned", "shown", "shown_lines"]

_ORDERS = (
    r"\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional
    r"\u2028\u2029\ufeff\ufff9-\ufffb"  # ends of lines, marks of order and annotation
    r"\ud800-\udfff"  # surrogates: bytes of a name that are no UTF-8
)
_ORDER = re.compile(f"[{_ORDERS}]")
_LONG_WORD = re.compile(r"\S{401,}")
_KEPT = 150  # characters of a word that is too long, at either end
#: Values of these names in records are paragraphs.
_PARAGRAPHS = frozenset({"detail"})


def shown(text: str) -> str:
    r"""Return `text` with what is no character escaped: ``\x1b[31m`` stays visible and does nothing."""
    return _ORDER.sub(_escape, text)


def shown_lines(text: str) -> str:
    """Return the paragraph `text` escaped, but for the ends of its lines."""
    return "\n".join(map(shown, text.split("\n")))


def brief(text: str) -> str:
    """Return `text` with its longest words cut in the middle: a message names a value, it does not repeat a file."""
    return _LONG_WORD.sub(lambda word: f"{word[0][:_KEPT]}...{word[0][-_KEPT:]}", text)


def cleaned(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a record in which every name and every text is escaped."""
    return {
        shown(name): shown_lines(value) if name in _PARAGRAPHS and isinstance(value, str) else _clean(value)
        for name, value in record.items()
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return cleaned(value)
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
