"""What is typed for a guest: from a terminal, a pipe or a file, taken when the guest has room for it.

A terminal is in raw mode meanwhile, so that every key is the guest's but Ctrl-A, which is for Quire.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from enum import Enum
from types import FrameType
from typing import Any, Self

__all__ = ["Command", "HostInput"]

_ESCAPE = 0x01
#: What the guest gets at the end of the input, as from a terminal: Ctrl-D.
_END = b"\x04"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Bytes that are kept for a guest that does not read.
_MOST_TYPED = 4096


class Command(Enum):
    """What Ctrl-A and a key ask of Quire."""

    END = "x"
    MONITOR = "c"


_COMMANDS = {one.value: one for one in Command}


class HostInput:
    """Standard input, or the descriptor `number`. Use as a context manager: a terminal is as before at the exit.

    `asked` is called with what Ctrl-A asks for.
    """

    def __init__(self, asked: Callable[[Command], None], number: int | None = None) -> None:
        self._asked = asked
        self._number = _standard_input() if number is None else number
        self._modes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}  # of signals, as they were before
        self._escaped = False
        self._typed = bytearray()  # on a terminal, and not taken yet
        self._over = self._number is None

    @property
    def is_open(self) -> bool:
        """Whether more may come by and by: from a terminal or a pipe that has not ended."""
        return not self._over

    def __enter__(self) -> Self:
        self.begin()
        return self

    def begin(self) -> None:
        """Have every key of a terminal at once."""
        if self._number is not None and os.isatty(self._number):
            self._modes = termios.tcgetattr(self._number)
            self._restore_on_signals()
            tty.setraw(self._number, termios.TCSANOW)

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Have the terminal as it was before."""
        if self._modes is not None and self._number is not None:
            termios.tcsetattr(self._number, termios.TCSANOW, self._modes)
            self._modes = None
            for number, before in self._handlers.items():
                signal.signal(number, before)

    def _restore_on_signals(self) -> None:
        """Have signals that end Quire find the terminal as it was before."""
        self._handlers = {number: signal.getsignal(number) for number in _ENDING}

        def handle(number: int, frame: FrameType | None) -> None:
            before = self._handlers[number]
            self.restore()
            if callable(before):
                before(number, frame)

        for number, before in self._handlers.items():
            if callable(before):
                signal.signal(number, handle)

    def look(self) -> None:
        """Read what a terminal has, for the sake of what it asks of Quire."""
        if self._modes is not None and len(self._typed) < _MOST_TYPED:
            self._typed += self._read(_MOST_TYPED)

    def take(self, most: int) -> bytes:
        """Return up to `most` bytes that are there, none if there are none; once, at the end, Ctrl-D."""
        if not self._typed:
            return self._read(most)
        data = bytes(self._typed[:most])
        del self._typed[:most]
        return data

    def _read(self, most: int) -> bytes:
        if self._over or self._number is None or not self._is_ready(0):
            return b""
        try:
            data = os.read(self._number, most)
        except OSError:  # a terminal that hung up
            data = b""
        if not data:
            self._over = True
            return _END
        return data if self._modes is None else self._without_escapes(data)

    def wait(self, seconds: float) -> None:
        """Wait for more, for so long at most."""
        if not self._over and not self._typed:
            self._is_ready(seconds)

    def _is_ready(self, seconds: float) -> bool:
        assert self._number is not None
        return bool(select.select([self._number], [], [], seconds)[0])

    def _without_escapes(self, data: bytes) -> bytes:
        """Return the guest's part of what was typed; Ctrl-A twice is one for the guest."""
        kept = bytearray()
        for key in data:
            if self._escaped:
                self._escaped = False
                if key == _ESCAPE:
                    kept.append(key)
                elif (asked := _COMMANDS.get(chr(key).lower())) is not None:
                    self._asked(asked)
            elif key == _ESCAPE:
                self._escaped = True
            else:
                kept.append(key)
        return bytes(kept)


def _standard_input() -> int | None:
    """Return the descriptor of standard input, None if it is closed."""
    try:
        return None if sys.stdin is None else sys.stdin.fileno()
    except (OSError, ValueError):
        return None
