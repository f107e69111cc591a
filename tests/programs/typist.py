"""Types at a terminal of its own what a person would, when what it waits for has been said, and keeps what was shown.

A session begins on that terminal, as one does in a window: the program leads it. No wait depends on how fast the
program is; what does not come in a long time, or before the program has ended, fails with all that was shown.
"""

import os
import pty
import re
import select
import signal
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limits import PATIENCE
from native import QUIRE, environment

__all__ = ["STARTS", "Shown", "Typist", "converse", "until"]

#: Natively, and as a guest.
STARTS: tuple[tuple[str, ...], ...] = ((), (QUIRE, "run", "--report", "none", "--"))
#: What a shell says first of a job in the background: its number there, and that of a process.
_JOB = re.compile(rb"(\[\d+\]) \d+\r")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a person saw: the text, without numbers of processes; the status; whether the terminal echoes at the end."""

    text: str
    status: int
    echoes: bool


class Typist:
    """Sits at a terminal with one program; use as a context manager, which ends it."""

    def __init__(self, argv: Sequence[str | os.PathLike[str]], extra: Mapping[str, str] | None = None) -> None:
        words = [os.fspath(word) for word in argv]
        env = environment({"TERM": "dumb", "PS1": "@ ", "HISTFILE": "/dev/null", **(extra or {})})
        self.seen, self._read = b"", 0
        self.number, self.descriptor = pty.fork()
        if self.number == 0:
            try:
                os.execvpe(words[0], words, env)
            finally:
                os._exit(127)
        self._status: int | None = None

    def __enter__(self) -> "Typist":
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is None:
            os.kill(self.number, signal.SIGKILL)
            os.waitpid(self.number, 0)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def wait(self, text: str) -> None:
        """Wait until `text` has been shown, after what was waited for before."""
        wanted = text.encode()
        while (at := self.seen.find(wanted, self._read)) < 0:
            more = self._more()
            assert more, f"it ended before it said {text!r}: {self.seen.decode(errors='replace')}"
        self._read = at + len(wanted)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.descriptor, keys.encode())

    def end(self) -> Shown:
        """Wait until the program has ended."""
        while self._more():
            pass
        echoes = bool(termios.tcgetattr(self.descriptor)[3] & termios.ECHO)
        return Shown(_JOB.sub(rb"\1 PID\r", self.seen).decode(errors="replace"), self.status(), echoes)

    def status(self) -> int:
        """Return the exit status of the program, or -N for signal N."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])
        return self._status

    def _more(self) -> bytes:
        """Return what is shown next, nothing at the end."""
        ready = select.select([self.descriptor], [], [], PATIENCE / 5)[0]
        assert ready, f"nothing more came: {self.seen.decode(errors='replace')}"
        try:
            found = os.read(self.descriptor, 4096)
        except OSError:  # EIO: nobody has the terminal open
            return b""
        self.seen += found
        return found


def until(path: str | os.PathLike[str]) -> str:
    """Wait until a file has text; return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            if text.endswith("\n"):
                return text
        time.sleep(0.02)
    raise AssertionError(f"nobody wrote {path}")


def converse(argv: Sequence[str | os.PathLike[str]], steps: Sequence[tuple[str, str]]) -> list[Shown]:
    """Have the same conversation with a program natively and as a guest: when a text was shown, keys are pressed."""
    found = []
    for start in STARTS:
        with Typist([*start, *argv]) as typist:
            for text, keys in steps:
                typist.wait(text)
                typist.type(keys)
            found.append(typist.end())
    return found
