"""Signals that the host sends Quire while a guest runs: caught, and handed to the guest between two instructions.

While the Cpu runs no Python does, so a C-level wakeup descriptor and a thread interrupt it; the Python handlers then
note which signals came. Use as a context manager, in the main thread.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from quire.guest.own_descriptors import move_high

__all__ = ["HostSignals"]

_CAUGHT = tuple(
    getattr(signal, name)
    for name in (
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGTERM",
        "SIGCHLD",
        "SIGWINCH",
        "SIGURG",
        "SIGIO",
        "SIGPROF",
        "SIGVTALRM",
    )
)


class HostSignals:
    """Catches signals between enter and exit; `interrupt` is called from a thread, once for what comes together."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    def take(self) -> list[int]:
        """Return the signals that came since the last call, oldest first."""
        taken, self._waiting = self._waiting, []
        return taken

    def __enter__(self) -> Self:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        self._reader, self._writer = move_high(reader), move_high(writer)
        for number in _CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="quire-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._waiting.append(number)

    def _watch(self) -> None:
        while os.read(self._reader, 64):
            self._interrupt()
