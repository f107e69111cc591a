"""A terminal as the guest's sessions see it: which session it controls, and which process group is in front.

Models the members `ctrl.session` and `ctrl.pgrp` of Linux's struct tty_struct (drivers/tty/tty_jobctrl.c). Bytes, modes
and echo are the host's own; the host knows nothing of the guest's sessions, and these numbers mean nothing to it.
"""

import os
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Screen", "Terminal"]

#: Number of no session and of no group.
_NONE = 0


class Screen(Protocol):
    """The host's terminal that controls Quire's own session."""

    @property
    def device(self) -> int:
        """Its device, as st_rdev has it."""
        ...

    @property
    def led(self) -> bool:
        """Whether Quire's own process leads the session."""
        ...

    def in_front(self) -> bool:
        """Whether Quire's own process group is in the foreground."""
        ...

    def come_to_front(self) -> None:
        """Put Quire's own process group into the foreground."""
        ...


@dataclass(eq=False, slots=True)
class Terminal:
    """The terminal of device `device` (st_rdev). `screen` is the host's; without one the guest made it, as a pty."""

    device: int
    screen: Screen | None = None
    session: int = _NONE
    group: int = _NONE  #: in the foreground, as far as the guest decides
    literal: bool = False  #: whether the next key stands for itself: VLNEXT came before it

    @property
    def foreground(self) -> int:
        """The group in the foreground, 0 if that is none of the guest's, as in a PID namespace."""
        if self.screen is not None and not self.screen.in_front():
            return _NONE
        return self.group

    @property
    def path(self) -> str:
        """The name of the slave of a pty."""
        return f"/dev/pts/{os.minor(self.device)}"

    @property
    def is_there(self) -> bool:
        """Whether a pty still has its master: with the last descriptor of that its name goes."""
        try:
            return os.stat(self.path).st_rdev == self.device
        except OSError:
            return False

    def free(self) -> None:
        """Control no session."""
        self.session = self.group = _NONE
