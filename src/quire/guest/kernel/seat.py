"""Where the calls of a process are made: a thread of the host with a table of descriptors of its own.

On Linux each thread may have its own descriptors, working directory and umask (unshare(2)). So a process of the guest
gets a thread of Quire's, and what fork copies the host's kernel copies: numbers, flags, what is shared as open files.
Processes that share their descriptors (CLONE_FILES) have one seat; two seats that differ in the working directory alone
have one table. Locks of files, descriptors that are sent, what an epoll set sees: all are the real ones. Only one seat
has the turn at a time, and with it all of the kernel that Quire plays; handing it on is the only way to get it.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from quire.errors import BackendError
from quire.guest.kernel.clone_flags import Clone

__all__ = ["Seat", "Table"]

_libc = ctypes.CDLL(None, use_errno=True)
_STACK = 1 << 20


@dataclass(eq=False, slots=True)
class Table:
    """What the kernel knows of one table of descriptors."""

    pipes: dict[object, int] = field(default_factory=dict)  #: its ends of pipes that tell of readiness
    slots: set[int] = field(default_factory=set)  #: numbers of descriptors by which calls wait
    processes: int = 1  #: that have it


class Seat:
    """The thread that is running, which has the turn; :meth:`start` makes others."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._turn.acquire()
        self.over = False  #: whether its process has ended
        self.processes = 1  #: whose calls are made here
        self.table = Table()
        self.native_id = threading.get_native_id()
        self._processors: set[int] = set()  # on which its thread might run before all seats shared one
        self._others: dict[Seat, threading.Thread] = {}  # seats that were started, by this or by one of those

    def give(self) -> None:
        """Let this seat have the turn; the caller must not go on with anything that is the guest's."""
        self._turn.release()

    def wait(self) -> None:
        """Wait for the turn."""
        self._turn.acquire()

    def start(
        self, run: Callable[[], None], own: Clone = Clone.FILES | Clone.FS, closes: Iterable[int] = ()
    ) -> "Seat":
        """Return a seat with copies of what is here, whose thread waits for the turn and calls `run` then.

        It has copies of what `own` says, the rest is the same, and `closes` of its copies of descriptors what is not
        its. Nobody sits there so far. Raises OSError if the host has no thread left.
        """
        self._pin()
        made = Seat()
        made.processes = 0
        made.table = Table(dict(self.table.pipes), processes=0) if own & Clone.FILES else self.table
        made._processors, made._others = self._processors, self._others
        begun = threading.Lock()
        begun.acquire()
        failed: list[int] = []

        def sit() -> None:
            made.native_id = threading.get_native_id()
            if _libc.unshare(int(own)):
                failed.append(ctypes.get_errno())
            else:
                for number in closes:
                    os.close(number)
            begun.release()
            if not failed:
                made.wait()
                run()

        thread = threading.Thread(target=sit, name="quire-process", daemon=True)
        before = threading.stack_size(_STACK)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from None
        finally:
            threading.stack_size(before)
        begun.acquire()
        if failed:
            raise BackendError(
                f"this system gives threads no descriptors of their own: {os.strerror(failed[0])}"
            )
        for seat in [one for one, its in self._others.items() if not its.is_alive()]:
            del self._others[seat]
        self._others[made] = thread
        return made

    def close(self) -> None:
        """End the other seats, which find that the guest is over; run on any processor again."""
        for seat, thread in self._others.items():
            if not seat.over:
                seat.give()
            thread.join()
        self._others.clear()
        for number in self.table.pipes.values():
            os.close(number)
        self.table.pipes.clear()
        if self._processors:
            os.sched_setaffinity(0, self._processors)
            self._processors.clear()

    def _pin(self) -> None:
        """Have all seats on one processor: only one is busy, and a turn is handed on in a tenth of the time."""
        if not self._processors:
            with suppress(OSError):
                self._processors |= os.sched_getaffinity(0)
                os.sched_setaffinity(0, {_libc.sched_getcpu()})
