"""What a sandboxed guest attempts, as a table, and the C program that is made of it.

A line of the table is ``row | arguments | outcome``. The row is a system call, a command of fcntl, ioctl or prctl, or
``way`` and what it is about. The arguments are C, with targets that sandbox_targets.py prepared; with ``=`` before it
an expression takes the place of the call. The outcome is ``ok`` for a call that is made and changes nothing outside,
``none`` for a result of 0, or the errors one of which it answers. A fourth field is the outcome when Quire's table of
effects stands alone, in a process that is not Quire's own: there no inherited descriptor is opened anew.
"""

import errno
import re
from dataclasses import dataclass

from attempts_descriptors import DESCRIPTORS
from attempts_files import FILES
from attempts_processes import PROCESSES
from attempts_ways import WAYS

from quire.guest.syscalls import SYSCALLS
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.fcntl import FCNTLS
from quire.guest.syscalls.ioctls import IOCTLS
from quire.guest.syscalls.prctl import PRCTLS

__all__ = ["ATTEMPTS", "Attempt", "attempted_rows", "c_program", "effect_rows"]

_BY_NAME = {entry.name: number for number, entry in SYSCALLS.items()}
_COMMANDS = {
    "fcntl": {entry.name: number for number, entry in FCNTLS.items()},
    "ioctl": {entry.name: number for number, entry in IOCTLS.items()},
    "prctl": {name: number for number, (name, _) in PRCTLS.items()},
}
_WAY = "way"
_BAR = re.compile(r" \|(?= )")  # C has two of them in a row


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the table."""

    row: str
    arguments: str
    outcome: str
    alone: str

    @property
    def expression(self) -> str:
        """The attempt in C."""
        if self.arguments.startswith("="):
            return self.arguments[1:].strip()
        name, _, command = self.row.partition(" ")
        words = [word for word in self.arguments.split(", ") if word]
        if command:
            words.insert(0 if name == "prctl" else 1, str(_COMMANDS[name][command]))
        return f"SC({', '.join([f'N_{name}', *words])})"

    def came_of_it(self, result: int, error: int, *, alone: bool) -> bool:
        """Whether a result and errno are what must come of the attempt."""
        wanted = (self.alone if alone else self.outcome).split()
        if result == -1 and error:
            return errno.errorcode[error].replace("ENOTSUP", "EOPNOTSUPP") in wanted
        return "ok" in wanted or ("none" in wanted and result == 0)


def _parsed(text: str) -> list[Attempt]:
    found = []
    for line in text.strip().splitlines():
        row, arguments, outcome, *alone = (field.strip() for field in _BAR.split(line))
        found.append(Attempt(row, arguments, outcome, alone[0] if alone else outcome))
    return found


#: In the order in which they are made; the last two end the program.
ATTEMPTS = [*_parsed(DESCRIPTORS), *_parsed(FILES), *_parsed(WAYS), *_parsed(PROCESSES)]


def effect_rows() -> dict[str, Effect]:
    """Return the rows of the table of effects: each call that is there, and each command, with what it may change."""
    rows = {entry.name: entry.effect for entry in SYSCALLS.values() if entry.run is not None}
    rows |= {f"fcntl {entry.name}": entry.effect for entry in FCNTLS.values()}
    rows |= {f"ioctl {entry.name}": entry.effect for entry in IOCTLS.values()}
    return rows | {f"prctl {name}": Effect.GUEST for name, _ in PRCTLS.values()}


def attempted_rows() -> set[str]:
    """Return the rows that have an attempt."""
    return {attempt.row for attempt in ATTEMPTS if attempt.row.split()[0] != _WAY}


def c_program(frame: str) -> str:
    """Return the program: `frame` with the numbers of calls and every attempt in their places."""
    numbers = [f"#define N_{name} {number}" for name, number in _BY_NAME.items()]
    functions = [
        f"static long attempt_{index}(void) {{ return (long)({one.expression}); }}"
        for index, one in enumerate(ATTEMPTS)
    ]
    names = ", ".join(f"attempt_{index}" for index in range(len(ATTEMPTS)))
    functions.append(f"static long (*const attempts[])(void) = {{{names}}};")
    return frame.replace("/* numbers */", "\n".join(numbers)).replace("/* attempts */", "\n".join(functions))
