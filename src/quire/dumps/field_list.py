"""VMCS fields as lists of a name or an encoding and a value, in any spelling: typed or printed.

A number without 0x is hexadecimal if it has a letter, ends in h, or is padded to 4, 8 or 16 digits; else it is decimal.
"""

import re

from quire.arch import VmcsField, field_by_encoding
from quire.dumps.field_names import field_of
from quire.dumps.lines import Line
from quire.dumps.vmcs_dump import VmcsDump
from quire.errors import MisuseError

__all__ = ["FieldList", "parse_hexadecimal"]

_NUMBER = r"(0x[0-9a-f_'`]{1,24}|[0-9][0-9a-f_]{0,19}h?|[0-9a-f]{4,16})"
_NUMBER_ALONE = re.compile(_NUMBER, re.IGNORECASE)
_SEPARATED = re.compile(
    r"([^=:|\t]{1,100}?)\s{0,40}[=:|\t]{1,3}\s{0,40}[\"']?" + _NUMBER + r"(?![\w])", re.IGNORECASE
)
_ENCODING = re.compile(r"(?:0x)?([0-9a-f]{4,8})$", re.IGNORECASE)
_BRACKETED = re.compile(r"[\[(] ?(?:0x)?([0-9a-f]{3,8}) ?[\])]", re.IGNORECASE)
_BRACKETED_LAST = re.compile(_BRACKETED.pattern + "$", re.IGNORECASE)
_BETWEEN = re.compile(r"[,;]\s{1,8}(?![^()]{0,40}\))")
_PADDED = (4, 8, 16)
_MOST_SPEAKERS = 3  # words with a colon before the name: a program, a function
_QUOTES = "\"'` {}|,"


def parse_hexadecimal(text: str) -> int:
    """Return the number that `text` is, by the rule above. Raises ValueError."""
    plain = text.lower().replace("_", "").replace("'", "").replace("`", "")
    if plain.startswith("0x"):
        return int(plain, 16)
    if plain.endswith("h"):
        return int(plain[:-1], 16)
    return int(plain, 10 if plain.isdecimal() and len(plain) not in _PADDED else 16)


def _named(text: str) -> VmcsField | None:
    """Return the field that a name, an encoding, or both mean."""
    name = text.strip(_QUOTES)
    bracketed = _BRACKETED.match(name) or _BRACKETED_LAST.search(name)
    if bracketed is not None:
        name = name.replace(bracketed[0], " ").strip()
    found = field_of(name)
    number = bracketed or _ENCODING.match(name)
    if found is None and number is not None:
        try:
            return field_by_encoding(int(number[1], 16))
        except MisuseError:
            return None
    return found


def _items(text: str) -> list[tuple[VmcsField, str]]:
    """Return the fields of a line with their values as text."""
    found = []
    for part in _BETWEEN.split(text):
        plain = part.strip(_QUOTES)
        for _ in range(_MOST_SPEAKERS):
            item = _item(plain)
            if item is not None:
                found.append(item)
                break
            _, colon, plain = plain.partition(": ")
            if not colon:
                break
        if not found:
            break  # a sentence, and no list, whatever comes behind its first comma
    return found


def _item(plain: str) -> tuple[VmcsField, str] | None:
    """Return the field and the value that `plain` says, None if it says none."""
    pair = _SEPARATED.match(plain)
    if pair is not None:
        name, value = pair[1], pair[2]
    else:
        words = plain.replace("`", " ").split()
        at = next((n for n in range(1, len(words)) if words[n].lower().startswith("0x")), len(words) - 1)
        name, value = " ".join(words[:at]), words[at] if words else ""
    field = _named(name) if name and _NUMBER_ALONE.fullmatch(value) else None
    return None if field is None else (field, value)


class FieldList(VmcsDump):
    """Lines that each have one field or several."""

    title = "list of VMCS fields by name or encoding"

    @classmethod
    def begins(cls, text: str) -> bool:
        return bool(_items(text))

    def take(self, line: Line) -> bool:
        items = _items(line.text)
        for field, text in items:
            value = parse_hexadecimal(text)
            if value >> field.bits:
                self.damage(line, field.name, f"{value:#x} does not fit in its {field.bits} bits")
            else:
                self.note(field.name, value, line)
        return bool(items)
