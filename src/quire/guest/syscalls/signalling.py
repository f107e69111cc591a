"""Signals: dispositions and masks are the guest's own, and a signal to itself never passes the host."""

import errno
import os
import signal
import struct
import time

from quire.guest.kernel.actions import SIGNAL_COUNT, AltStack, SigAction
from quire.guest.kernel.delivery import sigreturn
from quire.guest.kernel.siginfo import SI_TKILL, SI_USER, SIGINFO_BYTES, SignalInfo
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import INT, POINTER, S32, fail
from quire.guest.syscalls.table import NO_RESULT, Result, absent, syscall
from quire.guest.syscalls.waiting import replaced_mask, wait_for_signal

_SET_BYTES = 8
_ACTION_BYTES = 32
_STACK_BYTES = 24
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)

absent(282, "signalfd")
absent(289, "signalfd4")


@syscall(13, "rt_sigaction", S32, POINTER, POINTER, INT, effect=Effect.GUEST)
def rt_sigaction(task: Task, signo: int, new: int, old: int, size: int) -> int:
    """Get and set what a signal does."""
    if size != _SET_BYTES:
        return -errno.EINVAL
    action = SigAction.unpack(task.memory.read(new, _ACTION_BYTES)) if new else None
    if not 1 <= signo <= SIGNAL_COUNT or (action is not None and signo in _UNCATCHABLE):
        return -errno.EINVAL
    before = task.signals.action(signo)
    if action is not None:
        task.signals.set_action(signo, action)
        if signo in (signal.SIGTTIN, signal.SIGTTOU):
            task.outside.follow(signo, action.handler)
    if old:
        task.memory.write(old, before.pack())
    return 0


@syscall(14, "rt_sigprocmask", S32, POINTER, POINTER, INT, effect=Effect.GUEST)
def rt_sigprocmask(task: Task, how: int, new: int, old: int, size: int) -> int:
    """Get and change the set of blocked signals."""
    if size != _SET_BYTES:
        return -errno.EINVAL
    signals = task.signals
    before = signals.mask
    if new:
        change = task.memory.read_u64(new)
        if how == _BLOCK:
            signals.mask = before | change
        elif how == _UNBLOCK:
            signals.mask = before & ~change
        elif how == _SETMASK:
            signals.mask = change
        else:
            return -errno.EINVAL
    if old:
        task.memory.write_u64(old, before)
    return 0


@syscall(127, "rt_sigpending", POINTER, INT, effect=Effect.GUEST)
def rt_sigpending(task: Task, pointer: int, size: int) -> int:
    """Return the set of signals that are blocked and wait."""
    if size > _SET_BYTES:
        return -errno.EINVAL
    waiting = task.signals.pending & task.signals.mask
    task.memory.write(pointer, waiting.to_bytes(_SET_BYTES, "little")[:size])
    return 0


@syscall(130, "rt_sigsuspend", POINTER, INT, effect=Effect.GUEST)
def rt_sigsuspend(task: Task, pointer: int, size: int) -> int:
    """Wait for a signal under another mask."""
    if size != _SET_BYTES:
        return -errno.EINVAL
    mask = task.memory.read_u64(pointer)
    with replaced_mask(task, mask) as wait:
        return wait(lambda: _pause(task))


def _pause(task: Task) -> int:
    wait_for_signal(task, None)
    return -errno.EINTR


@syscall(34, "pause", effect=Effect.GUEST)
def pause(task: Task) -> int:
    """Wait for a signal."""
    return _pause(task)


@syscall(128, "rt_sigtimedwait", POINTER, POINTER, POINTER, INT, effect=Effect.GUEST)
def rt_sigtimedwait(task: Task, pointer: int, info: int, timeout: int, size: int) -> int:
    """Take a waiting signal of a set, or wait for one:

    EAGAIN when the time is over, EINTR for another one.
    """
    if size != _SET_BYTES:
        return -errno.EINVAL
    wanted = task.memory.read_u64(pointer)
    deadline = None
    if timeout:
        seconds, nanos = struct.unpack("<qq", task.memory.read(timeout, 16))
        if seconds < 0 or not 0 <= nanos < 1_000_000_000:
            return -errno.EINVAL
        deadline = time.monotonic() + min(seconds, 1 << 40) + nanos / 1e9
    arrived = wait_for_signal(task, deadline, wanted)
    taken = task.signals.dequeue(wanted)
    if taken is None:
        return -errno.EINTR if arrived else -errno.EAGAIN
    if info:
        task.memory.write(info, taken.pack())
    return taken.signo


@syscall(131, "sigaltstack", POINTER, POINTER, effect=Effect.GUEST)
def sigaltstack(task: Task, new: int, old: int) -> int:
    """Get and set the signal stack."""
    stack_pointer = task.machine.registers.read("rsp")
    before = task.signals.altstack_at(stack_pointer)
    if new:
        stack = AltStack.unpack(task.memory.read(new, _STACK_BYTES))
        result = task.signals.set_altstack(stack, stack_pointer)
        if result:
            return result
    if old:
        task.memory.write(old, before.pack())
    return 0


@syscall(15, "rt_sigreturn", effect=Effect.GUEST)
def rt_sigreturn(task: Task) -> Result:
    """Leave a signal handler: all registers come from the frame on the stack."""
    sigreturn(task)
    return NO_RESULT


def _check(signo: int) -> None:
    if not 0 <= signo <= SIGNAL_COUNT:
        raise fail(errno.EINVAL)


def _queue(task: Task, info: SignalInfo) -> int:
    """Send the guest a signal; number 0 only asks whether it is there. EAGAIN when too many wait."""
    return 0 if not info.signo or task.signals.queue(info) else -errno.EAGAIN


def _to_itself(task: Task, signo: int, code: int) -> int:
    return _queue(task, SignalInfo(signo, code, pid=os.getpid(), uid=os.getuid()))


def _to_others(task: Task, number: int, *words: int) -> int:
    """Let the host send a signal; not out of a sandbox, and not to one of Quire's threads (ESRCH).

    What comes back, because Quire is in the group, is the guest's before the call returns, as Linux has it.
    """
    if task.options.sandbox:
        return -errno.EPERM
    result = host.call(number, *words)
    task.collect_signals()
    return result


def _is_quires_thread(thread: int) -> bool:
    return os.path.exists(f"/proc/self/task/{thread}")


@syscall(62, "kill", S32, S32, effect=Effect.CHOOSES)
def kill(task: Task, target: int, signo: int) -> int:
    """Send a signal to a process or a group. A group that Quire is in reaches the guest through Quire."""
    _check(signo)
    if target == os.getpid():
        return _to_itself(task, signo, SI_USER)
    return _to_others(task, 62, target, signo)


@syscall(200, "tkill", S32, S32, effect=Effect.CHOOSES)
def tkill(task: Task, thread: int, signo: int) -> int:
    """Send a signal to a thread."""
    _check(signo)
    if thread <= 0:
        return -errno.EINVAL
    if thread == os.getpid():
        return _to_itself(task, signo, SI_TKILL)
    return -errno.ESRCH if _is_quires_thread(thread) else _to_others(task, 200, thread, signo)


@syscall(234, "tgkill", S32, S32, S32, effect=Effect.CHOOSES)
def tgkill(task: Task, group: int, thread: int, signo: int) -> int:
    """Send a signal to a thread of a process."""
    _check(signo)
    if group <= 0 or thread <= 0:
        return -errno.EINVAL
    own = os.getpid()
    if own in (group, thread) or _is_quires_thread(thread):
        return _to_itself(task, signo, SI_TKILL) if group == thread == own else -errno.ESRCH
    return _to_others(task, 234, group, thread, signo)


def _queue_info(task: Task, number: int, targets: tuple[int, ...], signo: int, pointer: int) -> int:
    data = task.memory.read(pointer, SIGINFO_BYTES)
    _check(signo)
    if any(target != os.getpid() for target in targets):
        if any(_is_quires_thread(target) for target in targets[1:]):
            return -errno.ESRCH
        buffer = host.HostBuffer(SIGINFO_BYTES, data)
        return _to_others(task, number, *targets, signo, buffer.address)
    (code,) = struct.unpack_from("<i", data, 8)
    pid, uid, value = struct.unpack_from("<IIQ", data, 16)
    (address,) = struct.unpack_from("<Q", data, 16)
    return _queue(task, SignalInfo(signo, code, addr=address, pid=pid, uid=uid, value=value))


@syscall(129, "rt_sigqueueinfo", S32, S32, POINTER, effect=Effect.CHOOSES)
def rt_sigqueueinfo(task: Task, target: int, signo: int, pointer: int) -> int:
    """Send a signal with a value."""
    return _queue_info(task, 129, (target,), signo, pointer)


@syscall(297, "rt_tgsigqueueinfo", S32, S32, S32, POINTER, effect=Effect.CHOOSES)
def rt_tgsigqueueinfo(task: Task, group: int, thread: int, signo: int, pointer: int) -> int:
    """Send a signal with a value to a thread."""
    return _queue_info(task, 297, (group, thread), signo, pointer)
