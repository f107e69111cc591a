"""Records found in a text: each line is offered to those that are being read, then to the formats that it may begin.

Lines of different contexts never meet. At most one record of each format is open in a context, so that a line costs a
number of steps that the text cannot make larger.
"""

from dataclasses import dataclass

from quire.dumps.dump import Dump
from quire.dumps.formats import FORMATS
from quire.dumps.lines import LONGEST_LINE, Line, split_lines

__all__ = ["Reading", "read_dumps"]

#: Lines of others after which a record has ended: a stack with its registers is shorter.
LONGEST_GAP = 120


@dataclass(frozen=True, slots=True)
class Reading:
    """The records in the order of their first lines, and the lines that none of them used."""

    dumps: list[Dump]
    unread: list[Line]


def read_dumps(text: str) -> Reading:
    """Return what `text` holds."""
    dumps: list[Dump] = []
    unread: list[Line] = []
    contexts: dict[str, list[Dump]] = {}
    kept: dict[int, Line] = {}
    for line in split_lines(text):
        opened = contexts.setdefault(line.context, [])
        opened[:] = [one for one in opened if line.number - one.lines[-1] <= LONGEST_GAP]
        dump = None if len(line.text) > LONGEST_LINE else _owner(opened, line)
        if dump is None:
            unread.append(line)
            continue
        if not dump.lines:
            dumps.append(dump)
        dump.lines.append(line.number)
        kept[line.number] = line
    useless = [one for one in dumps if not one.holds]
    unread += [kept[number] for one in useless for number in one.lines]
    unread.sort(key=lambda line: line.number)
    return Reading([one for one in dumps if one.holds], unread)


def _owner(opened: list[Dump], line: Line) -> Dump | None:
    """Return the record that took `line`, moved to the front of those that are open; None if nobody did."""
    for at, dump in enumerate(opened):
        if dump.take(line):
            opened.insert(0, opened.pop(at))
            return dump
    for form in FORMATS:
        if form.begins(line.text):
            dump = form(line.context)
            if dump.take(line):
                opened[:] = [dump, *(one for one in opened if type(one) is not form)]
                return dump
    return None
