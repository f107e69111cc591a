"""Signals of a process guest: dispositions, the mask, what is pending, and how a handler is entered and left.

Models Linux's kernel/signal.c and arch/x86/kernel/signal.c for one thread. Does not model stopping: a stop
signal is ignored and counted among what is not implemented. Contract: :meth:`Signals.deliver` runs at every
return to the guest. The guest's frames and stacks are hostile: what cannot be written or read is SIGSEGV.
"""

import errno
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from quire.guest.kernel.actions import (
    DEFAULT_ACTION,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SA_RESTORER,
    SA_SIGINFO,
    SIG_DFL,
    SIG_IGN,
    SIGNAL_COUNT,
    SS_AUTODISARM,
    SS_DISABLE,
    SS_ONSTACK,
    UNBLOCKABLE,
    AltStack,
    SigAction,
    signal_bit,
)
from quire.guest.kernel.frame import (
    FPU_BYTES,
    FRAME_BYTES,
    GENERAL,
    INITIAL_FPU,
    MINIMUM_SIGNAL_STACK,
    SIGINFO,
    UCONTEXT,
    Frame,
    FrameError,
    checked_fpu,
    decode_context,
    encode_frame,
    place_frame,
)
from quire.guest.kernel.siginfo import FAULT_SIGNALS, SI_KERNEL, SI_USER, GuestDeath, SignalInfo, signal_name
from quire.guest.mm.uaccess import BadAddress

if TYPE_CHECKING:
    from quire.guest.kernel.process import ProcessGuest

__all__ = [
    "MINIMUM_SIGNAL_STACK",
    "SA_RESTART",
    "SA_SIGINFO",
    "SIGNAL_COUNT",
    "SIG_DFL",
    "SIG_IGN",
    "AltStack",
    "GuestDeath",
    "SigAction",
    "SignalInfo",
    "Signals",
    "signal_bit",
    "signal_name",
]

_ALL = (1 << SIGNAL_COUNT) - 1
_FIRST_QUEUED = 32
#: RLIMIT_SIGPENDING: how many signals wait at most.
_MAX_PENDING = 4096
_MINSIGSTKSZ = 2048
_ADDRESS_END = 1 << 47
#: RF, DF, TF: clear when a handler starts.
_HANDLER_CLEARS = 0x1_0500
_SEGV = SignalInfo(signal.SIGSEGV, SI_KERNEL, text="the signal frame cannot be written or read")


class Signals:
    """The signals of one process. A signal set has bit n - 1 for signal n."""

    def __init__(self) -> None:
        #: One disposition per signal; index 0 is unused.
        self.actions = [SigAction()] * (SIGNAL_COUNT + 1)
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

    @property
    def pending(self) -> int:
        """The set of signals that wait, blocked or not."""
        waiting = 0
        for info in self._pending:
            waiting |= signal_bit(info.signo)
        return waiting

    @property
    def deliverable(self) -> bool:
        """Whether a signal waits that is not blocked: a system call that sleeps is interrupted."""
        return bool(self._pending) and bool(self.pending & ~self._mask)

    def action(self, signo: int) -> SigAction:
        """Return the disposition of `signo`, 1 to 64."""
        return self.actions[signo]

    def set_action(self, signo: int, action: SigAction) -> None:
        """Set the disposition of `signo`, 1 to 64, not SIGKILL or SIGSTOP. Ignoring a signal forgets it."""
        self.actions[signo] = replace(action, mask=action.mask & _ALL & ~UNBLOCKABLE)
        if self._is_ignored(signo):
            self._pending = [info for info in self._pending if info.signo != signo]

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
        """Send a signal; False when too many wait. A standard signal that waits already waits once."""
        if self._is_ignored(info.signo) and not self._mask & signal_bit(info.signo):
            return True
        if info.signo < _FIRST_QUEUED and self.pending & signal_bit(info.signo):
            return True
        if len(self._pending) >= _MAX_PENDING and info.signo != signal.SIGKILL:
            return False
        self._pending.append(info)
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
        chosen: SignalInfo | None = None
        for info in self._pending:
            if signals & signal_bit(info.signo) and (chosen is None or _order(info) < _order(chosen)):
                chosen = info
        if chosen is not None:
            # By identity: two queued real-time signals may be equal.
            index = next(index for index, info in enumerate(self._pending) if info is chosen)
            del self._pending[index]
        return chosen

    def interrupted_restart(self, signo: int) -> bool:
        """Whether a system call that `signo` interrupts is restarted: SA_RESTART, or no handler at all."""
        action = self.actions[signo]
        return action.handler in (SIG_DFL, SIG_IGN) or bool(action.flags & SA_RESTART)

    def deliver(self, process: "ProcessGuest") -> GuestDeath | None:
        """Act on every signal that waits and is not blocked, before the guest runs; return its death."""
        while self._pending:
            info = self.dequeue(~self._mask)
            if info is None:
                break
            action = self.actions[info.signo]
            if action.handler == SIG_IGN:
                continue
            if action.handler != SIG_DFL:
                self._enter(process, info, action)
                continue
            default = DEFAULT_ACTION.get(info.signo, "terminate")
            if default == "terminate":
                return self._death(process, info)
            if default == "stop":
                key = f"stop by {signal_name(info.signo)}"
                process.unimplemented[key] = process.unimplemented.get(key, 0) + 1
        process.restart_call(None)
        if self.saved_mask is not None:
            self.mask, self.saved_mask = self.saved_mask, None
        return None

    def sigreturn(self, process: "ProcessGuest") -> None:
        """Do rt_sigreturn: restore what the frame above the stack pointer saved; a bad frame is SIGSEGV."""
        registers = process.machine.registers
        rsp, rflags = registers.read_many(("rsp", "rflags"))
        try:
            context = decode_context(process.memory.read(rsp - 8, FRAME_BYTES), rflags)
            fpu = process.memory.read(context.fpu, FPU_BYTES) if context.fpu else INITIAL_FPU
            registers.load_fpu(checked_fpu(fpu))
        except (BadAddress, FrameError):
            self.force(_SEGV)
            return
        registers.write_many(context.registers)
        self.mask = context.mask
        self.set_altstack(context.altstack, context.registers["rsp"])

    def _enter(self, process: "ProcessGuest", info: SignalInfo, action: SigAction) -> None:
        """Make the guest run the handler of `info` next."""
        process.restart_call(action)
        try:
            self._push(process, info, action)
        except (BadAddress, FrameError):
            if info.signo == signal.SIGSEGV:
                self.actions[info.signo] = SigAction()
            self.force(_SEGV)
            return
        if action.flags & SA_RESETHAND:
            self.actions[info.signo] = replace(action, handler=SIG_DFL)
        self.mask |= action.mask | (0 if action.flags & SA_NODEFER else signal_bit(info.signo))

    def _push(self, process: "ProcessGuest", info: SignalInfo, action: SigAction) -> None:
        registers = process.machine.registers
        values = registers.read_many(GENERAL)
        rsp, rflags = values[GENERAL.index("rsp")], values[GENERAL.index("rflags")]
        if not action.flags & SA_RESTORER or action.handler >= _ADDRESS_END:
            raise FrameError("the handler has no restorer, or is not in user space")
        stack, usable = self.altstack, bool(self.altstack.size)
        on_stack = usable and (stack.contains(rsp) or bool(action.flags & SA_ONSTACK))
        place = place_frame(rsp, stack if on_stack else None)
        mask = self._mask if self.saved_mask is None else self.saved_mask
        frame = Frame(action.restorer, info, mask, self.altstack_at(rsp), process.trap)
        process.memory.write(place.fpu, registers.save_fpu())
        process.memory.write(place.frame, encode_frame(place, values, frame))
        self.saved_mask = None
        if usable and stack.flags & SS_AUTODISARM:
            self.altstack = AltStack()
        registers.load_fpu(INITIAL_FPU)
        registers.write_many(
            {
                "rip": action.handler,
                "rsp": place.frame,
                "rdi": info.signo,
                "rsi": place.frame + SIGINFO,
                "rdx": place.frame + UCONTEXT,
                "rax": 0,
                "rflags": rflags & ~_HANDLER_CLEARS,
            }
        )

    def _is_ignored(self, signo: int) -> bool:
        handler = self.actions[signo].handler
        default = DEFAULT_ACTION.get(signo)
        return handler == SIG_IGN or (handler == SIG_DFL and default in ("ignore", "continue"))

    @staticmethod
    def _death(process: "ProcessGuest", info: SignalInfo) -> GuestDeath:
        text = info.text or ("sent by a process" if info.code <= SI_USER else "sent by the kernel")
        address = info.addr if info.signo in FAULT_SIGNALS else 0
        rip = process.machine.registers.read("rip")
        return GuestDeath(info.signo, info.code, address, rip, f"{signal_name(info.signo)}: {text}")


def _order(info: SignalInfo) -> tuple[int, int]:
    """Return the rank of a waiting signal: what the instruction itself caused first, then by number."""
    return (0 if info.signo in FAULT_SIGNALS or info.signo == signal.SIGSYS else 1, info.signo)
