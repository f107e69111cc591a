"""Ctrl-C and SIGTERM while no guest runs: one line, the status of a death by that signal, no traceback.

They end the process at once, which is safe wherever nothing has to be put right. A verb that has something to put
right, or results to keep, asks to be told instead: :func:`told_of_interruptions`. (While a guest runs, it gets them.)
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["Interrupted", "leave", "leaving_on_signals", "told_of_interruptions"]

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class Interrupted(BaseException):
    """Somebody wants the verb to end: `status` is the exit status of that, `words` how a message says it.

    No Exception: nobody who handles failures is to take it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        self.words = _WORDS[signal.Signals(number)]


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Have the signals end the process with one line."""
    with _handling(_leave_at_once):
        yield


@contextmanager
def told_of_interruptions() -> Iterator[None]:
    """Have the signals raise Interrupted where the main thread is."""
    with _handling(_tell):
        yield


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], NoReturn]) -> Iterator[None]:
    """Have `handler` called for the signals, but for those that are ignored: a shell has its reasons."""
    before = {number: signal.getsignal(number) for number in _WORDS}
    caught = [number for number, found in before.items() if found not in (signal.SIG_IGN, None)]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])


def leave(end: Interrupted) -> NoReturn:
    """Say what ended the process, and end it: no buffer is written and nothing is waited for."""
    line = f"quire: {end.words}\n"
    stream = sys.stderr
    file = getattr(stream, "buffer", None)
    try:
        if file is not None:
            file.write(line.encode())  # a text stream may be in use where the signal came
        elif stream is not None:
            stream.write(line)
    except (OSError, RuntimeError, ValueError):
        pass
    os._exit(end.status)


def _tell(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _leave_at_once(number: int, frame: FrameType | None) -> NoReturn:
    leave(Interrupted(number))
