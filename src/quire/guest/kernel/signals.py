"""Signals of a process guest: what each does, the mask, the signal stack, and what is pending.

Models Linux's kernel/signal.c for one thread, and what it shares with the others of its process.
How a handler is entered and left is :mod:`quire.guest.kernel.delivery`.
"""

import errno
import signal
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from quire.guest.kernel.actions import (
    DEFAULT_ACTION,
    SA_RESTART,
    SIG_DFL,
    SIG_IGN,
    SIGNAL_COUNT,
    SS_AUTODISARM,
    SS_DISABLE,
    SS_ONSTACK,
    STOPS,
    UNBLOCKABLE,
    AltStack,
    Dispositions,
    SigAction,
    signal_bit,
)
from quire.guest.kernel.siginfo import FAULT_SIGNALS, SignalInfo

__all__ = ["Signals"]

_ALL = (1 << SIGNAL_COUNT) - 1
_FIRST_QUEUED = 32
#: RLIMIT_SIGPENDING: how many signals wait at most.
_MAX_PENDING = 4096
_MINSIGSTKSZ = 2048


class Signals:
    """The signals of one thread. A signal set has bit n - 1 for signal n.

    `actions` and `shared`, what waits for the process, are those of its other threads; without them it is the first.
    """

    def __init__(self, actions: Dispositions | None = None, shared: list[SignalInfo] | None = None) -> None:
        #: What each signal does: what the threads of a process share.
        self.actions = Dispositions() if actions is None else actions
        #: What waits for whichever thread of the process takes it first.
        self.shared: list[SignalInfo] = [] if shared is None else shared
        self.altstack = AltStack()
        #: The mask to go back to after what rt_sigsuspend and its like wait for; None outside them.
        self.saved_mask: int | None = None
        self._mask = 0
        self._pending: list[SignalInfo] = []

    @property
    def mask(self) -> int:
        """The set of blocked signals; SIGKILL and SIGSTOP never are."""
        return self._mask

    @mask.setter
    def mask(self, value: int) -> None:
        self._mask = value & _ALL & ~UNBLOCKABLE

    def inherit(self, mask: int, ignored: int) -> None:
        """Begin with these signals blocked and ignored, as a program does that another one starts."""
        self.mask = mask
        for signo in range(1, SIGNAL_COUNT + 1):
            if ignored & signal_bit(signo) & ~UNBLOCKABLE:
                self.actions[signo] = SigAction(SIG_IGN)

    @property
    def pending(self) -> int:
        """The set of signals that wait, blocked or not."""
        return _set_of(self._pending) | _set_of(self.shared)

    @property
    def deliverable(self) -> bool:
        """Whether a signal waits that is not blocked: a system call that sleeps is interrupted."""
        return bool(self._pending or self.shared) and bool(self.pending & ~self._mask)

    @property
    def fatal(self) -> bool:
        """Whether a signal waits that is not blocked and, having no handler, ends the process."""
        return any(
            not self._mask & signal_bit(info.signo)
            and self.actions[info.signo].handler == SIG_DFL
            and info.signo not in DEFAULT_ACTION
            for info in (*self._pending, *self.shared)
        )

    def waits(self, signo: int, code: int, pid: int) -> bool:
        """Whether signal `signo` with this code and this sender waits: one of a timer waits once."""
        waiting = (*self._pending, *self.shared)
        return any((info.signo, info.code, info.pid) == (signo, code, pid) for info in waiting)

    def action(self, signo: int) -> SigAction:
        """Return the disposition of `signo`, 1 to 64."""
        return self.actions[signo]

    def set_action(self, signo: int, action: SigAction) -> None:
        """Set the disposition of `signo`, 1 to 64, not SIGKILL or SIGSTOP. Ignoring a signal forgets it."""
        self.actions[signo] = replace(action, mask=action.mask & _ALL & ~UNBLOCKABLE)
        if self.actions.ignores(signo):
            self.forget({signo})

    def forget(self, numbers: AbstractSet[int]) -> None:
        """Let signals of these numbers wait no longer."""
        for waiting in (self._pending, self.shared):
            waiting[:] = [info for info in waiting if info.signo not in numbers]

    def set_altstack(self, stack: AltStack, rsp: int) -> int:
        """Set the signal stack as sigaltstack does with the guest's stack pointer at `rsp`; 0 or -errno."""
        if self.altstack.contains(rsp) and not self.altstack.flags & SS_DISABLE:
            return -errno.EPERM
        mode = stack.flags & ~SS_AUTODISARM
        if mode not in (0, SS_ONSTACK, SS_DISABLE):
            return -errno.EINVAL
        if mode == SS_DISABLE:
            self.altstack = AltStack(0, stack.flags, 0)
        elif stack.size < _MINSIGSTKSZ:
            return -errno.ENOMEM
        else:
            self.altstack = replace(stack, flags=stack.flags & SS_AUTODISARM)
        return 0

    def altstack_at(self, rsp: int) -> AltStack:
        """Return the signal stack as sigaltstack reports it with the stack pointer at `rsp`."""
        stack = self.altstack
        if not stack.size:
            return AltStack(stack.sp, SS_DISABLE | (stack.flags & SS_AUTODISARM), 0)
        return replace(stack, flags=stack.flags | (SS_ONSTACK if stack.contains(rsp) else 0))

    def queue(self, info: SignalInfo) -> bool:
        """Send a signal to the thread; False when too many wait. A standard signal that waits already waits once."""
        return self._queue(self._pending, info)

    def queue_shared(self, info: SignalInfo) -> bool:
        """Send a signal to the process: whichever thread takes it first. Return as :meth:`queue` does."""
        return self._queue(self.shared, info)

    def _queue(self, waiting: list[SignalInfo], info: SignalInfo) -> bool:
        if info.signo == signal.SIGCONT or info.signo in STOPS:
            # What stops and what continues cancel each other, also when they are then ignored or blocked.
            self.forget(STOPS if info.signo == signal.SIGCONT else {signal.SIGCONT})
        if self.actions.ignores(info.signo) and not self._mask & signal_bit(info.signo):
            return True
        if info.signo < _FIRST_QUEUED and _set_of(waiting) & signal_bit(info.signo):
            return True
        if len(waiting) >= _MAX_PENDING and info.signo != signal.SIGKILL:
            return False
        waiting.append(info)
        return True

    def force(self, info: SignalInfo) -> None:
        """Send a signal for a fault of the instruction at hand: if it is blocked or ignored it kills."""
        bit = signal_bit(info.signo)
        if self._mask & bit or self.actions[info.signo].handler == SIG_IGN:
            self.actions[info.signo] = replace(self.actions[info.signo], handler=SIG_DFL)
            self._mask &= ~bit
        # The fault, not one that another process sent meanwhile, is what the handler must see.
        self._pending = [
            old for old in self._pending if old.signo != info.signo or info.signo >= _FIRST_QUEUED
        ]
        self._pending.append(info)

    def dequeue(self, signals: int) -> SignalInfo | None:
        """Take the next waiting signal in the set `signals` out of the queue, blocked or not."""
        if not self._pending and not self.shared:
            return None
        chosen: SignalInfo | None = None
        for info in (*self._pending, *self.shared):
            if signals & signal_bit(info.signo) and (chosen is None or _order(info) < _order(chosen)):
                chosen = info
        for waiting in (self._pending, self.shared):
            # By identity: two queued real-time signals may be equal.
            index = next((index for index, info in enumerate(waiting) if info is chosen), None)
            if index is not None:
                del waiting[index]
                break
        return chosen

    def interrupted_restart(self, signo: int) -> bool:
        """Whether a system call that `signo` interrupts is restarted: SA_RESTART, or no handler at all."""
        action = self.actions[signo]
        return action.handler in (SIG_DFL, SIG_IGN) or bool(action.flags & SA_RESTART)


def _set_of(infos: Iterable[SignalInfo]) -> int:
    """Return the set of these signals."""
    found = 0
    for info in infos:
        found |= signal_bit(info.signo)
    return found


def _order(info: SignalInfo) -> tuple[int, int]:
    """Return the rank of a waiting signal: what the instruction itself caused first, then by number."""
    return (0 if info.signo in FAULT_SIGNALS or info.signo == signal.SIGSYS else 1, info.signo)
