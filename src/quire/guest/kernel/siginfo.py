"""What a signal says about its cause, and how a guest died of one.

Models ``siginfo_t`` as Linux x86-64 lays it out (128 bytes). Does not model which signal is delivered when;
:mod:`quire.guest.kernel.signals` does.
"""

import signal
import struct
from dataclasses import dataclass, replace
from enum import IntEnum

from quire.arch import LOW32, WORD

__all__ = [
    "BUS_ADRALN",
    "BUS_ADRERR",
    "FAULT_SIGNALS",
    "POLL_LAST",
    "SEGV_ACCERR",
    "SEGV_MAPERR",
    "SIGINFO_BYTES",
    "SI_KERNEL",
    "SI_MESGQ",
    "SI_QUEUE",
    "SI_SIGIO",
    "SI_TIMER",
    "SI_TKILL",
    "SI_USER",
    "GuestDeath",
    "Owner",
    "OwnerKind",
    "SignalInfo",
    "signal_name",
]

SIGINFO_BYTES = 128

SI_USER = 0
SI_KERNEL = 0x80
SI_QUEUE = -1
SI_TIMER = -2
SI_MESGQ = -3
#: A descriptor is ready, of a signal below SIGRTMIN that has codes of its own.
SI_SIGIO = -5
SI_TKILL = -6
SEGV_MAPERR = 1
SEGV_ACCERR = 2
BUS_ADRALN = 1
BUS_ADRERR = 2
#: POLL_IN to POLL_HUP: what F_SETSIG and O_ASYNC say of a descriptor.
POLL_LAST = 6

#: Signals that an instruction causes; their siginfo carries an address.
FAULT_SIGNALS = frozenset(
    int(s) for s in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP)
)


def signal_name(signo: int) -> str:
    """Return ``SIGSEGV`` for 11, ``SIGRTMIN+2`` for 36: the C library keeps 32 and 33 for itself."""
    if signo in _NAMES:
        return _NAMES[signo]
    return f"SIGRTMIN+{signo - 34}" if signo >= 34 else f"signal {signo}"


_NAMES = {int(s): s.name for s in signal.Signals if s.value < 32}


class OwnerKind(IntEnum):
    """Who may own an open file: F_OWNER_TID and its like (include/uapi/asm-generic/fcntl.h)."""

    THREAD = 0
    PROCESS = 1
    GROUP = 2


@dataclass(frozen=True, slots=True)
class Owner:
    """Who of the guest gets signals of an open file: what F_SETOWN says."""

    kind: OwnerKind
    number: int


@dataclass(frozen=True, slots=True)
class SignalInfo:
    """One signal and its cause. `addr` is for faults, `value` for queued signals, `status` for SIGCHLD, `fd` and
    `band` for a descriptor that is ready. Of a timer, `pid` and `uid` are its number and its overrun.

    `text` is for the report when the guest dies of it, `to` says for whom the host sent it; the guest sees neither.
    """

    signo: int
    code: int
    addr: int = 0
    pid: int = 0
    uid: int = 0
    value: int = 0
    status: int = 0
    fd: int = 0
    band: int = 0
    text: str = ""
    to: Owner | None = None

    def pack(self) -> bytes:
        """Return the 128 bytes of ``siginfo_t``; the code says which member of the union is filled."""
        head = struct.pack("<iiiI", self.signo, 0, self.code, 0)
        if self.signo in FAULT_SIGNALS and self.code > 0:
            rest = struct.pack("<Q", self.addr & WORD)
        elif self.signo == signal.SIGCHLD and self.code > 0:
            rest = struct.pack("<IIi", self.pid & LOW32, self.uid & LOW32, self.status)
        elif 0 < self.code <= POLL_LAST or self.code == SI_SIGIO:
            rest = struct.pack("<Qi", self.band & WORD, self.fd)
        else:
            rest = struct.pack("<IIQ", self.pid & LOW32, self.uid & LOW32, self.value & WORD)
        return (head + rest).ljust(SIGINFO_BYTES, b"\0")

    def with_text(self, text: str) -> "SignalInfo":
        """Return the same signal with another `text`."""
        return replace(self, text=text)

    def addressed(self, to: Owner) -> "SignalInfo":
        """Return the same signal, sent for the owner of an open file."""
        return replace(self, to=to)


@dataclass(frozen=True, slots=True)
class GuestDeath:
    """The signal that ended the guest. `address` is what it accessed (0 if none), `rip` where it was."""

    signo: int
    si_code: int
    address: int
    rip: int
    text: str
