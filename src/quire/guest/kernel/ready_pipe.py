"""A pipe by which the host knows that something of the kernel's is ready, so that its poll, epoll, dup and fork do.

A program has one end of it, which it can only read, or read and write. The kernel has an end for writing at each seat
where a program may have the other: a copy that fork made, or one that was opened when the descriptor came by message.
"""

import fcntl
import os
import select
from collections.abc import Callable, Iterable
from contextlib import suppress

from quire.guest.kernel.seat import Seat
from quire.own_descriptors import move_high

__all__ = ["Key", "ReadyPipe", "close_lonely"]

#: Device and inode.
Key = tuple[int, int]
#: Two pages: one that holds something leaves room.
_SIZE = 8192


class ReadyPipe:
    """One pipe, and the number of the kernel's end, which is the same at all `seats` that have it."""

    def __init__(self, seats: Callable[[], Iterable[Seat]]) -> None:
        self._seats = seats
        self.key: Key = (0, 0)
        self.dead = False  #: whether no program has its end any more
        self._level = 0

    def open(self, seat: Seat, flags: int, *, writable: bool = False) -> int:
        """Return a new descriptor for a program at `seat`, the caller's. `flags` are O_CLOEXEC and O_NONBLOCK.

        Raises OSError.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            with suppress(PermissionError):  # where a sandbox has walls of the host's
                os.fchmod(writer, 0o666)  # a program may become another user, the kernel with it
            os.set_blocking(writer, False)
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _SIZE)
            if writable:
                both = os.open(f"/proc/thread-self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC)
                os.dup2(both, reader)
                os.close(both)
            os.set_blocking(reader, not flags & os.O_NONBLOCK)
            os.set_inheritable(reader, not flags & os.O_CLOEXEC)
            seat.table.pipes[self] = move_high(writer, close=False)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        status = os.fstat(reader)
        self.key = status.st_dev, status.st_ino
        return reader

    def adopt(self, seat: Seat, descriptor: int) -> None:
        """A program at `seat`, the caller's, has got `descriptor` by a message."""
        if self not in seat.table.pipes:
            with suppress(OSError):
                seat.table.pipes[self] = move_high(_open_again("thread-self", descriptor, os.O_WRONLY))

    def ring(self) -> None:
        """Have the pipe be readable, and wake who watches it, though it may have been readable before."""
        self._level = max(self._level, 1)
        self._write(b"\0")

    def set_level(self, level: int) -> None:
        """Have it be neither readable nor full (0), readable (1), or readable and full (2)."""
        if level == self._level:
            return
        if level < self._level or level == 2:
            self._drain()
        self._level = level
        if level:
            self._write(bytes(_SIZE) if level == 2 else b"\0")

    def _write(self, data: bytes) -> None:
        end = self._end(os.O_WRONLY)
        if end is not None:
            try:
                with suppress(BlockingIOError):  # full already: it is readable
                    os.write(end, data)
            finally:
                os.close(end)

    def _drain(self) -> None:
        end = self._end(os.O_RDONLY)
        if end is not None:
            try:
                with suppress(BlockingIOError):
                    while os.read(end, 1 << 16):
                        pass
            finally:
                os.close(end)

    def _end(self, flags: int) -> int | None:
        """Return a new descriptor of the pipe, None if no program has one."""
        for seat in self._seats():
            number = seat.table.pipes.get(self)
            if number is None:
                continue
            try:
                found = _open_again(f"self/task/{seat.native_id}", number, flags)
            except OSError:
                continue
            status = os.fstat(found)
            if (status.st_dev, status.st_ino) == self.key:
                if flags != os.O_WRONLY or not _is_lonely(found):
                    return found
                self.dead = True  # and who wrote there would get SIGPIPE
            os.close(found)
        return None


def _open_again(whose: str, number: int, flags: int) -> int:
    return os.open(f"/proc/{whose}/fd/{number}", flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_lonely(writer: int) -> bool:
    """Whether nobody has an end for reading."""
    poll = select.poll()
    poll.register(writer, 0)
    return bool(poll.poll(0))


def close_lonely(seat: Seat) -> None:
    """Close the kernel's ends at `seat`, the caller's, of pipes of which no program has an end."""
    poll = select.poll()
    numbers = {number: pipe for pipe, number in seat.table.pipes.items()}
    for number in numbers:
        poll.register(number, 0)
    for number, events in poll.poll(0):
        if events & select.POLLERR:
            pipe = numbers[number]
            assert isinstance(pipe, ReadyPipe)
            pipe.dead = True
            del seat.table.pipes[pipe]
            os.close(number)
