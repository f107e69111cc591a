"""Threads that stand in for the guest's processes where the host sends the owner of an open file a signal.

To the host all processes of a guest are one, Quire, and a signal that says only that something is ready (SIGIO) does
not say to whom. So the host is told that a thread owns the file, one for each owner: it waits for what comes, and
says for whom that was. The host keeps the owner with the open file, which processes share; when its thread has ended
the file has none, as natively.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable

from quire.guest.kernel.siginfo import POLL_LAST, SI_KERNEL, SI_SIGIO, SI_TKILL, Owner, SignalInfo
from quire.guest.syscalls import host

__all__ = ["INFO_BYTES", "StandIns"]

_SIGPROCMASK, _TGKILL, _UNSHARE, _SIGNALFD4 = 14, 234, 272, 289
_SETMASK = 2
_CLONE_FS, _CLONE_FILES = 0x200, 0x400
#: struct signalfd_siginfo.
INFO_BYTES = 128
#: So many at most: each is a thread of the host's.
_MOST = 64
_STACK = 1 << 18
#: Sent to such a thread when it shall look: the last that it reads of those that wait.
_MARK = 64
#: More descriptors than a process has.
_DESCRIPTORS = 1 << 20


class StandIns:
    """Starts them, and hands what they get to `heard`, which may use descriptor `keeps` and no other.

    `unpack` reads the host's structure.
    """

    def __init__(
        self, unpack: Callable[[bytes], SignalInfo], heard: Callable[[SignalInfo], None], keeps: int
    ) -> None:
        self.unpack, self._heard, self.keeps = unpack, heard, keeps
        self._threads: dict[Owner, _StandIn] = {}

    def find(self, owner: Owner, is_there: Callable[[Owner], bool]) -> int:
        """Return the number of the thread for `owner`; threads for those end who are there no longer."""
        for gone in [one for one in self._threads if not is_there(one)]:
            self._threads.pop(gone).close()
        found = self._threads.get(owner)
        if found is None:
            if len(self._threads) >= _MOST:
                raise OSError(errno.EAGAIN, "too many own open files")
            found = self._threads[owner] = _StandIn(owner, self)
        return found.number

    def owner_of(self, thread: int) -> Owner | None:
        """Return whom a thread stands in for."""
        return next((owner for owner, one in self._threads.items() if one.number == thread), None)

    def settle(self) -> None:
        """Return when all is passed on that the host has sent so far: no time passes for the guest until it has it."""
        for one in self._threads.values():
            one.settle()

    def close(self) -> None:
        """End all."""
        while self._threads:
            self._threads.popitem()[1].close()

    def came(self, info: SignalInfo, owner: Owner) -> None:
        """Pass on what a thread for `owner` got: a signal for all of Quire may be among it, which is the guest's."""
        self._heard(info.addressed(owner) if _is_of_a_file(info) else info)


def _is_of_a_file(info: SignalInfo) -> bool:
    """Whether the kernel sent a signal because a file is ready."""
    if info.code == SI_SIGIO or (info.code == SI_KERNEL and info.signo == signal.SIGIO):
        return True
    return 0 < info.code <= POLL_LAST and info.signo != signal.SIGCHLD  # which tells of children with these


class _StandIn:
    """The thread for one owner: it begins at once."""

    def __init__(self, owner: Owner, whole: StandIns) -> None:
        self._owner, self._whole = owner, whole
        self._closing = False
        self._begun, self._settled = threading.Event(), threading.Event()
        self._error = 0
        self._thread = threading.Thread(target=self._run, name="quire-owner", daemon=True)
        before = threading.stack_size(_STACK)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from None
        finally:
            threading.stack_size(before)
        self._begun.wait()
        if self._error:
            raise OSError(self._error, os.strerror(self._error))

    def close(self) -> None:
        """End it, by a signal that is never one too many."""
        self._closing = True
        host.call(_TGKILL, os.getpid(), self.number, signal.SIGIO)
        self._thread.join()

    def settle(self) -> None:
        """Wait until it has passed on what was sent before; with too many signals queued, do not."""
        self._settled.clear()
        if not host.call(_TGKILL, os.getpid(), self.number, _MARK):
            self._settled.wait()

    def _run(self) -> None:
        self.number = threading.get_native_id()
        everything = host.HostBuffer(8, b"\xff" * 8)
        host.call(_SIGPROCMASK, _SETMASK, everything.address, 0, 8)
        # The descriptors are those of the process that asked, which would stay open after its end.
        self._error = -host.call(_UNSHARE, _CLONE_FS | _CLONE_FILES)
        if not self._error:
            os.closerange(0, self._whole.keeps)
            os.closerange(self._whole.keeps + 1, _DESCRIPTORS)
            signals = host.call(_SIGNALFD4, -1, everything.address, 8, os.O_CLOEXEC)
            self._error = max(-signals, 0)
        self._begun.set()
        while not self._error:
            data = os.read(signals, INFO_BYTES)
            if self._closing:
                return
            info = self._whole.unpack(data)
            if (info.signo, info.code) == (_MARK, SI_TKILL):
                self._settled.set()
            else:
                self._whole.came(info, self._owner)
