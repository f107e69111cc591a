"""Open files that the kernel plays: timers, signals and queues of messages that programs know by descriptors.

Behind each is a pipe of the host's, which copies, passes and closes its descriptors, and by which others see when it is
ready. What is read from it, and when it is ready, is the kernel's to say.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Protocol

from quire.guest.kernel.ready_pipe import Key, ReadyPipe, close_lonely
from quire.guest.kernel.seat import Seat
from quire.guest.kernel.signals import Signals
from quire.guest.kernel.waiting import WaitQueue

__all__ = ["PlayedFile", "PlayedFiles", "Reader"]


class Reader(Protocol):
    """A task, as far as an open file knows it."""

    awaits: int  #: signals that its call waits for though it blocks them

    @property
    def signals(self) -> Signals:
        """What waits for it."""
        ...


class PlayedFile(ABC):
    """One open file; its descriptors may be of several processes."""

    pipe: ReadyPipe

    @property
    @abstractmethod
    def link(self) -> bytes:
        """What a link of /proc/PID/fd says that it is."""

    def __init__(self) -> None:
        self.queue = WaitQueue()  #: calls that wait for it to be ready, and need no descriptor for that

    def ring(self) -> None:
        """Be ready, and wake who waits for that."""
        self.pipe.ring()
        self.queue.wake()

    @abstractmethod
    def read(self, reader: Reader, size: int) -> bytes:
        """Return what `reader` gets who asks for `size` bytes. Raises OSError; Blocks, also where it must not wait."""

    def moment(self) -> int | None:
        """Return when it will be ready by itself, on CLOCK_MONOTONIC; None for never."""
        return None

    def expire(self) -> None:  # noqa: B027 - most have no such moment
        """Be ready if that moment has come."""

    def heed(self, reader: Reader) -> None:  # noqa: B027 - most are the same for everybody
        """Be as ready as it is for `reader`, who is about to look."""

    def closed(self, pid: int) -> None:  # noqa: B027 - it makes no difference to most
        """A process closes a descriptor of it."""

    def sent(self, signo: int) -> None:  # noqa: B027 - and not about signals
        """A signal was sent."""


class PlayedFiles:
    """All of one machine, by the pipes behind them. `seats` returns where programs have descriptors."""

    def __init__(self, seats: Callable[[], Iterable[Seat]]) -> None:
        self._seats = seats
        self._files: dict[Key, PlayedFile] = {}
        self.regrouped = (
            WaitQueue()
        )  #: calls that wait for an epoll set of such files alone, until that changes

    def __bool__(self) -> bool:
        return bool(self._files)

    def find(self, status: os.stat_result) -> PlayedFile | None:
        """Return the file that a descriptor with this status names, None if it is the host's own."""
        return self._files.get((status.st_dev, status.st_ino)) if self._files else None

    def known(self, key: Key) -> PlayedFile | None:
        """Return the file with this device and inode."""
        return self._files.get(key)

    def named(self, descriptor: int) -> PlayedFile | None:
        """Return the file that a descriptor of the caller's names, None for another one. Raises OSError (EBADF)."""
        return self.find(os.fstat(descriptor))

    def open(self, file: PlayedFile, seat: Seat, flags: int, *, writable: bool = False) -> int:
        """Return a new descriptor of `file` for a program at `seat`, the caller's. Raises OSError."""
        self.forget_closed(seat)
        file.pipe = ReadyPipe(self._seats)
        descriptor = file.pipe.open(seat, flags, writable=writable)
        self._files[file.pipe.key] = file
        return descriptor

    def forget_closed(self, seat: Seat) -> None:
        """Forget those of which no program has a descriptor, as far as it is seen at `seat`, the caller's."""
        close_lonely(seat)
        self._forget_dead()

    def adopt(self, seat: Seat, descriptor: int) -> None:
        """A program at `seat`, the caller's, has got a descriptor by a message."""
        if self._files:
            file = self.named(descriptor)
            if file is not None:
                file.pipe.adopt(seat, descriptor)

    def moment(self) -> int | None:
        """Return the first moment at which one will be ready by itself."""
        return min((one for file in self._files.values() if (one := file.moment()) is not None), default=None)

    def expire(self) -> None:
        """Have those be ready whose moment has come."""
        for file in self._files.values():
            file.expire()
        self._forget_dead()

    def heed(self, reader: Reader) -> None:
        """Have each be as ready as it is for `reader`, who is about to look at descriptors."""
        for file in self._files.values():
            file.heed(reader)

    def sent(self, signo: int) -> None:
        """A signal was sent: have those hear of it who watch the descriptors."""
        for file in self._files.values():
            file.sent(signo)

    def _forget_dead(self) -> None:
        if any(file.pipe.dead for file in self._files.values()):
            self._files = {key: file for key, file in self._files.items() if not file.pipe.dead}
