"""What a process has decided about each signal, and the numbers of signals.

Models ``struct sigaction`` as the kernel keeps it, the signal stack, and the default action of each signal.
"""

import signal
import struct
from dataclasses import dataclass

from quire.arch import WORD

__all__ = [
    "DEFAULT_ACTION",
    "SA_NODEFER",
    "SA_ONSTACK",
    "SA_RESETHAND",
    "SA_RESTART",
    "SA_RESTORER",
    "SA_SIGINFO",
    "SIGNAL_COUNT",
    "SIG_DFL",
    "SIG_IGN",
    "SS_AUTODISARM",
    "SS_DISABLE",
    "SS_ONSTACK",
    "STOPS",
    "UNBLOCKABLE",
    "AltStack",
    "Dispositions",
    "SigAction",
    "signal_bit",
]

SIGNAL_COUNT = 64
SIG_DFL, SIG_IGN = 0, 1

SA_SIGINFO = 0x4
SA_RESTORER = 0x0400_0000
SA_ONSTACK = 0x0800_0000
SA_RESTART = 0x1000_0000
SA_NODEFER = 0x4000_0000
SA_RESETHAND = 0x8000_0000
#: The flags that the kernel keeps; those of children and of address tags change nothing here.
_FLAGS = 0xDC00_0807

SS_ONSTACK, SS_DISABLE = 1, 2
SS_AUTODISARM = 1 << 31


def signal_bit(signo: int) -> int:
    """Return the bit of `signo` in a signal set."""
    return 1 << (signo - 1)


#: SIGKILL and SIGSTOP: no mask has them.
UNBLOCKABLE = signal_bit(signal.SIGKILL) | signal_bit(signal.SIGSTOP)

#: "ignore", "stop" or "continue"; every other signal ends the process.
DEFAULT_ACTION = {
    int(signal.SIGCHLD): "ignore",
    int(signal.SIGURG): "ignore",
    int(signal.SIGWINCH): "ignore",
    int(signal.SIGCONT): "continue",
    int(signal.SIGSTOP): "stop",
    int(signal.SIGTSTP): "stop",
    int(signal.SIGTTIN): "stop",
    int(signal.SIGTTOU): "stop",
}
#: The signals that stop a process which has no handler for them.
STOPS = frozenset(signo for signo, action in DEFAULT_ACTION.items() if action == "stop")


@dataclass(frozen=True, slots=True)
class SigAction:
    """One signal's disposition: `handler` is an address, SIG_DFL or SIG_IGN."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0

    def pack(self) -> bytes:
        """Return the 32 bytes of the kernel's ``struct sigaction``."""
        return struct.pack("<4Q", self.handler, self.flags & WORD, self.restorer, self.mask)

    @classmethod
    def unpack(cls, data: bytes) -> "SigAction":
        """Return the action in 32 bytes from rt_sigaction."""
        handler, flags, restorer, mask = struct.unpack("<4Q", data)
        return cls(handler, flags & _FLAGS, restorer, mask)


@dataclass(frozen=True, slots=True)
class AltStack:
    """The signal stack of sigaltstack: `size` bytes at `sp`."""

    sp: int = 0
    flags: int = SS_DISABLE
    size: int = 0

    def contains(self, address: int) -> bool:
        """Whether a stack pointer at `address` is on this stack."""
        return self.sp < address <= self.sp + self.size

    def pack(self) -> bytes:
        """Return the 24 bytes of ``stack_t``."""
        return struct.pack("<QIIQ", self.sp, self.flags, 0, self.size)

    @classmethod
    def unpack(cls, data: bytes) -> "AltStack":
        """Return the stack in 24 bytes from sigaltstack."""
        sp, flags, _, size = struct.unpack("<QIIQ", data)
        return cls(sp, flags, size)


class Dispositions:
    """What each signal does, by its number: one list for all threads of a process."""

    def __init__(self) -> None:
        self._actions = [SigAction()] * (SIGNAL_COUNT + 1)  # index 0 is unused

    def __getitem__(self, signo: int) -> SigAction:
        """Return the disposition of `signo`, 1 to 64."""
        return self._actions[signo]

    def __setitem__(self, signo: int, action: SigAction) -> None:
        """Set the disposition of `signo`, 1 to 64."""
        self._actions[signo] = action

    def ignores(self, signo: int) -> bool:
        """Whether `signo` does nothing: it is ignored, or has no handler and does nothing by itself."""
        handler = self._actions[signo].handler
        return handler == SIG_IGN or (
            handler == SIG_DFL and DEFAULT_ACTION.get(signo) in ("ignore", "continue")
        )
