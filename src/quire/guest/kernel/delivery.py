"""Delivery of signals: how a handler is entered and left, and what a signal without one does.

Models arch/x86/kernel/signal.c and the end of get_signal in kernel/signal.c. A stop signal stops Quire's own process,
so that a shell's job control sees what it would see of the program. Contract: :func:`deliver` runs at every return to
the guest. The guest's frames and stacks are hostile: what cannot be written or read is SIGSEGV.
"""

import signal
from dataclasses import replace

from quire.arch import RFLAGS
from quire.guest.kernel.actions import (
    DEFAULT_ACTION,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTORER,
    SIG_DFL,
    SIG_IGN,
    SS_AUTODISARM,
    AltStack,
    SigAction,
    signal_bit,
)
from quire.guest.kernel.frame import (
    FPU_BYTES,
    FRAME_BYTES,
    INITIAL_FPU,
    SAVED,
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
from quire.guest.kernel.task import Task
from quire.guest.mm.linux import ADDRESS_END
from quire.guest.mm.uaccess import BadAddress

__all__ = ["deliver", "sigreturn"]

#: Clear when a handler starts.
_HANDLER_CLEARS = RFLAGS.mask("RF", "DF", "TF")
_SEGV = SignalInfo(signal.SIGSEGV, SI_KERNEL, text="the signal frame cannot be written or read")
_SEQUENCE = SignalInfo(signal.SIGSEGV, SI_KERNEL, text="the restartable sequence (rseq) is described wrong")


def deliver(task: Task) -> GuestDeath | None:
    """Act on all that the task must find before its next instruction: signals, sequences; return its death."""
    death, rseq = _take_signals(task), task.rseq
    if rseq is None or not rseq.due or death is not None or not task.runs:
        return death
    vcpu, node = task.kernel.scheduler.lane.number, task.machine.node
    if rseq.come_back(task.memory, task.machine.registers, vcpu, node):
        return None
    task.signals.force(_SEQUENCE)
    return _take_signals(task)


def _take_signals(task: Task) -> GuestDeath | None:
    """Act on every signal that waits and is not blocked; return the death of the guest."""
    signals = task.signals
    while (info := signals.dequeue(~signals.mask)) is not None:
        action = signals.action(info.signo)
        if action.handler == SIG_IGN:
            continue
        if action.handler != SIG_DFL:
            _enter(task, info, action)
            continue
        default = DEFAULT_ACTION.get(info.signo, "terminate")
        if default == "terminate":
            return _death(task, info)
        if default == "stop" and task.stop_by(info.signo):
            return None
    task.restart_call(None)
    if signals.saved_mask is not None:
        signals.mask, signals.saved_mask = signals.saved_mask, None
    return None


def sigreturn(task: Task) -> None:
    """Do rt_sigreturn: restore what the frame above the stack pointer saved; a bad frame is SIGSEGV."""
    registers = task.machine.registers
    rsp, rflags = registers.read_many(("rsp", "rflags"))
    try:
        context = decode_context(task.memory.read(rsp - 8, FRAME_BYTES), rflags)
        fpu = task.memory.read(context.fpu, FPU_BYTES) if context.fpu else INITIAL_FPU
        registers.load_fpu(checked_fpu(fpu))
    except (BadAddress, FrameError):
        task.signals.force(_SEGV)
        return
    registers.write_many(context.registers)
    task.signals.mask = context.mask
    task.signals.set_altstack(context.altstack, context.registers["rsp"])


def _enter(task: Task, info: SignalInfo, action: SigAction) -> None:
    """Make the guest run the handler of `info` next."""
    task.restart_call(action)
    if task.rseq is not None and not task.rseq.break_off(task.memory, task.machine.registers):
        _refuse(task, info, _SEQUENCE)
        return
    try:
        _push(task, info, action)
    except (BadAddress, FrameError):
        _refuse(task, info, _SEGV)
        return
    signals = task.signals
    if action.flags & SA_RESETHAND:
        signals.actions[info.signo] = replace(action, handler=SIG_DFL)
    signals.mask |= action.mask | (0 if action.flags & SA_NODEFER else signal_bit(info.signo))


def _refuse(task: Task, info: SignalInfo, why: SignalInfo) -> None:
    """Send SIGSEGV because the handler of `info` cannot be run; that of SIGSEGV itself cannot either."""
    if info.signo == signal.SIGSEGV:
        task.signals.actions[info.signo] = SigAction()
    task.signals.force(why)


def _push(task: Task, info: SignalInfo, action: SigAction) -> None:
    """Write the frame of `info` to the guest's stack, and set the registers that its handler starts with."""
    registers, signals = task.machine.registers, task.signals
    values = registers.read_many(SAVED)
    rsp, rflags = values[SAVED.index("rsp")], values[SAVED.index("rflags")]
    if not action.flags & SA_RESTORER or action.handler >= ADDRESS_END:
        raise FrameError("the handler has no restorer, or is not in user space")
    stack, usable = signals.altstack, bool(signals.altstack.size)
    on_stack = usable and (stack.contains(rsp) or bool(action.flags & SA_ONSTACK))
    place = place_frame(rsp, stack if on_stack else None)
    mask = signals.mask if signals.saved_mask is None else signals.saved_mask
    frame = Frame(action.restorer, info, mask, signals.altstack_at(rsp), task.trap)
    task.memory.write(place.fpu, registers.save_fpu())
    task.memory.write(place.frame, encode_frame(place, values, frame))
    signals.saved_mask = None
    if usable and stack.flags & SS_AUTODISARM:
        signals.altstack = AltStack()
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


def _death(task: Task, info: SignalInfo) -> GuestDeath:
    text = info.text or ("sent by a process" if info.code <= SI_USER else "sent by the kernel")
    address = info.addr if info.signo in FAULT_SIGNALS else 0
    rip = task.machine.registers.read("rip")
    return GuestDeath(info.signo, info.code, address, rip, f"{signal_name(info.signo)}: {text}")
