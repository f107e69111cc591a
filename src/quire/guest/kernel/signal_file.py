"""The signals behind a descriptor of signalfd: those that wait for whoever looks. Models Linux's fs/signalfd.c."""

import errno
import signal
import struct

from quire.arch import LOW32, WORD
from quire.guest.kernel.actions import UNBLOCKABLE, signal_bit
from quire.guest.kernel.played_files import PlayedFile, Reader
from quire.guest.kernel.siginfo import FAULT_SIGNALS, POLL_LAST, SI_TIMER, SignalInfo
from quire.guest.kernel.waiting import Blocks

__all__ = ["SignalFile", "packed"]

#: struct signalfd_siginfo up to ssi_addr: signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status, int,
#: ptr, utime, stime, addr.
_INFO = struct.Struct("<IiiIIiIIIIiiQQQQ")
_BYTES = 128


class SignalFile(PlayedFile):
    """Signals of the set `mask`, by bits; SIGKILL and SIGSTOP are never among them."""

    link = b"anon_inode:[signalfd]"

    def __init__(self, mask: int) -> None:
        super().__init__()
        self.select(mask)

    def select(self, mask: int) -> None:
        """Have it be about other signals."""
        self.mask = mask & ~UNBLOCKABLE

    def read(self, reader: Reader, size: int) -> bytes:
        """Take signals that wait for `reader`, as many as fit, at least one. EINVAL where none fits."""
        count = size // _BYTES
        if not count:
            raise OSError(errno.EINVAL, "too short")
        found: list[bytes] = []
        while len(found) < count and (info := reader.signals.dequeue(self.mask)) is not None:
            found.append(packed(info))
        self.heed(reader)
        if not found:
            reader.awaits = self.mask
            raise Blocks()
        return b"".join(found)

    def heed(self, reader: Reader) -> None:
        """Be readable if one of the signals waits for `reader`: each process that shares it has its own."""
        self.pipe.set_level(int(bool(reader.signals.pending & self.mask)))

    def sent(self, signo: int) -> None:
        """Wake who watches it, if the signal is one of them."""
        if self.mask & signal_bit(signo):
            self.ring()


def packed(info: SignalInfo) -> bytes:
    """Return a signal as struct signalfd_siginfo; signal and code say which members are filled."""
    pid = uid = timer = overrun = status = value = address = band = fd = 0
    if info.signo in FAULT_SIGNALS and info.code > 0:
        address = info.addr & WORD
    elif info.code == SI_TIMER:
        timer, overrun, value = info.pid, info.uid, info.value
    elif info.signo != signal.SIGCHLD and 0 < info.code <= POLL_LAST:
        fd, band = info.fd, info.band & LOW32
    else:
        pid, uid, status, value = info.pid & LOW32, info.uid & LOW32, info.status, info.value
    number = (value & LOW32 ^ 0x8000_0000) - 0x8000_0000  # of the value, what is an int
    words = (info.signo, 0, info.code, pid, uid, fd, timer, band, overrun, 0, status, number, value & WORD)
    return _INFO.pack(*words, 0, 0, address).ljust(_BYTES, b"\0")
