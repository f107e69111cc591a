"""What the world outside a guest does to it while it runs: the consumer's side of the interface.

The kernel that Quire plays asks for what came, says when it wants to be woken, and stops with its host when job control
says so. :class:`quire.guest.host_signals.HostSignals` is the real one.
"""

import errno
import time
from collections.abc import Callable
from typing import Protocol

from quire.errors import InternalError
from quire.guest.kernel.siginfo import Owner, SignalInfo

__all__ = ["Nowhere", "Outside"]


class Outside(Protocol):
    """Where signals come from, and who wakes a guest at a time."""

    def take(self) -> list[SignalInfo]:
        """Return the signals that came since the last call, oldest first."""
        ...

    def wake_at(self, moment: int | None) -> None:
        """Interrupt the guest at `moment`, in ns of CLOCK_MONOTONIC, instead of when asked before; None for never."""
        ...

    def is_orphaned(self) -> bool:
        """Whether this process's group is orphaned: nobody would bring it back if it stopped."""
        ...

    def stop(self, signo: int) -> None:
        """Stop this process as stop signal `signo` does; return when something continues it."""
        ...

    def sleep(self, left: int | None) -> None:
        """Wait for a signal, for up to `left` ns, None for ever."""
        ...

    def wake_descriptor(self) -> int | None:
        """Return a descriptor that can be read when a signal has come; None when none ever does."""
        ...

    def stand_in(self, owner: Owner, is_there: Callable[[Owner], bool]) -> int:
        """Return the number of a thread of the host's that gets what the host sends `owner`, as long as he is there.

        Raises OSError: EAGAIN for one too many.
        """
        ...

    def owner_of(self, thread: int) -> Owner | None:
        """Return whom a thread stands in for, None if it does for nobody."""
        ...


class Nowhere:
    """Nothing comes from outside, and nobody can stop."""

    def take(self) -> list[SignalInfo]:
        """Return nothing."""
        return []

    def wake_at(self, moment: int | None) -> None:
        """Wake nobody."""

    def is_orphaned(self) -> bool:
        """Somebody is there."""
        return False

    def stop(self, signo: int) -> None:
        """Go on."""

    def sleep(self, left: int | None) -> None:
        """Wait: nothing comes before the time is over."""
        if left is None:
            raise InternalError("every task of the guest waits, and nothing can come from outside.")
        time.sleep(left / 1e9)

    def wake_descriptor(self) -> int | None:
        """Return none."""
        return None

    def stand_in(self, owner: Owner, is_there: Callable[[Owner], bool]) -> int:
        """Nobody can: EAGAIN."""
        raise OSError(errno.EAGAIN, "no signals come")

    def owner_of(self, thread: int) -> Owner | None:
        """Nobody does."""
        return None
