"""Lines of a log without what loggers put before them: time, host, level, quotes of a mail, context.

A context is who said the line, ``T22`` for a thread and ``C1`` for a processor, as kernels print it: what two of them
say at the same time is told apart by it. Each pattern is anchored and bounded, so that a line costs what its length is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LONGEST_LINE", "Line", "split_lines"]

#: Characters of a line that is looked at. No printer of a dump writes a tenth of it.
LONGEST_LINE = 4096
_MOST_PREFIXES = 16
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_LABELS = (
    r"(?!Bad pagetable|Call Trace|Hardware name|EPT )"  # two words and a colon, and yet no host and program
)
_SENDER = _LABELS + r"[\w.:-]{0,62}\w {1,4}[A-Za-z][\w./-]{0,31}(?:\[\d{1,9}\])?: ?"
_COLOUR = re.compile(
    r"(?:\x1b|\^\[|#033)\[[\d;?]{0,32}[A-Za-z]"
)  # of a terminal, or as pagers and syslog write it
_CONTEXT = re.compile(r"\[ {0,12}([TC]\d{1,9})\] {0,4}")
_PREFIXES = tuple(
    re.compile(pattern)
    for pattern in (
        r"[>|] {0,4}",  # a mail that quotes
        r"<\d{1,3}>",  # a level
        r"\[ {0,12}\d{1,10}\.\d{1,9}\] {0,4}",
        r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d " + _CLOCK + r" \d{4}\] {0,4}",
        r"\[\d{4}-\d\d-\d\d " + _CLOCK + r"\] {0,4}",
        r"[A-Z][a-z]{2} {1,2}\d{1,2} " + _CLOCK + " " + _SENDER,
        r"\d{4}-\d\d-\d\d[ T]" + _CLOCK + r"\S{0,8} " + _SENDER,
        r"\d{4}-\d\d-\d\d[ T]" + _CLOCK + r"(?:Z|[+-]\d\d:?\d\d)?(?: \||:| std(?:out|err) [FP])?(?: {1,4}|$)",
        _CLOCK + r" {1,4}(?=HM:|\D)",
        r"\((?:XEN|d\d{1,5}(?:v\d{1,5})?)\) {0,1}",
        r"HM: ?",
        r"d\d{1,5}v\d{1,5} (?=EPT|vmentry|Walking| ?--- GLA)",
        r"d\d{1,5}v\d{1,5} (?=EPT|vmentry|Walking| --- GLA|--- GLA)",
        r"kernel: ?",
        r"(?:kvm_intel|kvm_amd|kvm|KVM|SVM)(?: \[\d{1,9}\])?: {0,4}",
    )
)
_FIRST_CHARACTERS = frozenset(">|<[(ABCDFJKMNOSHdk0123456789")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty: its `number` from 1, its `text` without prefixes, its `context` or ``""``."""

    number: int
    text: str
    context: str = ""


def split_lines(text: str) -> Iterator[Line]:
    """Yield the lines of `text` that hold anything. One without a context goes on with that of the line before."""
    context = ""
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        body = raw.strip()
        if not body:
            continue
        if len(body) > LONGEST_LINE:
            yield Line(number, body, context)
            continue
        if "[" in body:
            body = _COLOUR.sub("", body).strip()
        body, found = _without_prefixes(body)
        context = found or context
        if body:
            yield Line(number, body, context)


def _without_prefixes(text: str) -> tuple[str, str]:
    """Return the text behind its prefixes and the context that one of them named, or ``""``."""
    at, context = 0, ""
    for _ in range(_MOST_PREFIXES):
        end = at
        if text[at : at + 1] in _FIRST_CHARACTERS:
            named = _CONTEXT.match(text, at)
            if named is not None:
                context, end = named[1], named.end()
            else:
                end = next((m.end() for one in _PREFIXES if (m := one.match(text, at)) is not None), at)
        if end == at:
            break
        at = end
        while text[at : at + 1] == " ":
            at += 1
    return text[at:].strip(), context
