"""The host's terminal that controls the session in which Quire runs: what the guest's kernel asks of it.

Use as a context manager around the guest's run: the modes and the window size that a guest gave it by /dev/tty are put
back at the exit. Without such a terminal :meth:`HostTerminal.find` returns None.
"""

import fcntl
import os
import signal
import struct
import termios
from typing import Any, Self

from quire.own_descriptors import move_high

__all__ = ["HostTerminal", "is_somebody_elses"]

_TTY = "/dev/tty"
_GROUP = struct.Struct("<i")
#: Fields of /proc/self/stat behind the name: proc(5) counts that as the second.
_SESSION, _DEVICE = 6 - 3, 7 - 3


def is_somebody_elses(descriptor: int) -> bool:
    """Whether a terminal controls Quire's session and has another group in front, which set its modes for itself."""
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:
        return False


class HostTerminal:
    """The terminal of device `device`, by `descriptor`, which is Quire's own; `led` says whether Quire's process leads.

    The numbers of Quire's group and of this descriptor are the same at each seat.
    """

    def __init__(self, descriptor: int, device: int, led: bool) -> None:
        self._descriptor, self.device, self.led = descriptor, device, led
        self._own = os.getpgrp()
        self._modes: list[Any] | None = None
        self._window = b""

    @classmethod
    def find(cls) -> "HostTerminal | None":
        """Return the terminal that controls Quire's session, None without one."""
        try:
            with open("/proc/self/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            device = int(fields[_DEVICE])
            if not device:
                return None
            descriptor = move_high(os.open(_TTY, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
        except OSError:
            return None  # it hung up, or there are no such names: nobody can ask it anything
        return cls(descriptor, device, int(fields[_SESSION]) == os.getpid())

    def in_front(self) -> bool:
        """Whether Quire's own process group is in the foreground; of a terminal that hung up, that none other is."""
        try:
            found = fcntl.ioctl(self._descriptor, termios.TIOCGPGRP, bytes(_GROUP.size))
        except OSError:
            return True
        return bool(_GROUP.unpack(found)[0] == self._own)

    def come_to_front(self) -> None:
        """Put Quire's own process group into the foreground; SIGTTOU is blocked, so that nothing stops it."""
        try:
            fcntl.ioctl(self._descriptor, termios.TIOCSPGRP, _GROUP.pack(self._own))
        except OSError:
            pass  # a sandbox forbids it, or the terminal hung up

    def __enter__(self) -> Self:
        try:
            self._modes = termios.tcgetattr(self._descriptor)
            self._window = fcntl.ioctl(self._descriptor, termios.TIOCGWINSZ, bytes(8))
        except (OSError, termios.error):
            self._modes = None  # it hung up meanwhile
        return self

    def __exit__(self, *_: object) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            self._put_back()
        except (OSError, termios.error):
            pass  # nobody sees what it was left like
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(self._descriptor)

    def _put_back(self) -> None:
        if self._modes is None or is_somebody_elses(self._descriptor):
            return
        if termios.tcgetattr(self._descriptor) != self._modes:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._modes)
        if fcntl.ioctl(self._descriptor, termios.TIOCGWINSZ, bytes(8)) != self._window:
            fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, self._window)
