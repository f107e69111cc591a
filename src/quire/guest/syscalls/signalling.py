"""Signals: dispositions and masks are the guest's own, and none passes the host."""

import errno
import os
import signal
import struct

from quire.guest.kernel.actions import SIGNAL_COUNT, AltStack, SigAction
from quire.guest.kernel.delivery import sigreturn
from quire.guest.kernel.group import INIT, Process, ProcessThread
from quire.guest.kernel.siginfo import SI_TKILL, SIGINFO_BYTES, SignalInfo
from quire.guest.kernel.task import Task
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.ids import may_signal
from quire.guest.syscalls.kinds import INT, POINTER, S32, fail
from quire.guest.syscalls.table import NO_RESULT, Result, syscall
from quire.guest.syscalls.waiting import deadline, replaced_mask, wait_for_signal

_SET_BYTES = 8
_ACTION_BYTES = 32
_STACK_BYTES = 24
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)


@syscall(13, "rt_sigaction", S32, POINTER, POINTER, INT, effect=Effect.PLAYED)
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
    if old:
        task.memory.write(old, before.pack())
    return 0


@syscall(14, "rt_sigprocmask", S32, POINTER, POINTER, INT, effect=Effect.PLAYED)
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


@syscall(127, "rt_sigpending", POINTER, INT, effect=Effect.PLAYED)
def rt_sigpending(task: Task, pointer: int, size: int) -> int:
    """Return the set of signals that are blocked and wait."""
    if size > _SET_BYTES:
        return -errno.EINVAL
    waiting = task.signals.pending & task.signals.mask
    task.memory.write(pointer, waiting.to_bytes(_SET_BYTES, "little")[:size])
    return 0


@syscall(130, "rt_sigsuspend", POINTER, INT, effect=Effect.PLAYED)
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


@syscall(34, "pause", effect=Effect.PLAYED)
def pause(task: Task) -> int:
    """Wait for a signal."""
    return _pause(task)


@syscall(128, "rt_sigtimedwait", POINTER, POINTER, POINTER, INT, effect=Effect.PLAYED)
def rt_sigtimedwait(task: Task, pointer: int, info: int, timeout: int, size: int) -> int:
    """Take a waiting signal of a set, or wait for one:

    EAGAIN when the time is over, EINTR for another one.
    """
    if size != _SET_BYTES:
        return -errno.EINVAL
    wanted = task.memory.read_u64(pointer)
    until = None
    if timeout:
        seconds, nanos = struct.unpack("<qq", task.memory.read(timeout, 16))
        if seconds < 0 or not 0 <= nanos < 1_000_000_000:
            return -errno.EINVAL
        until = deadline(task, min(seconds, 1 << 32) * 1_000_000_000 + nanos)
    arrived = wait_for_signal(task, until, wanted)
    taken = task.signals.dequeue(wanted)
    if taken is None:
        return -errno.EINTR if arrived else -errno.EAGAIN
    if info:
        task.memory.write(info, taken.pack())
    return taken.signo


@syscall(131, "sigaltstack", POINTER, POINTER, effect=Effect.PLAYED)
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


@syscall(15, "rt_sigreturn", effect=Effect.PLAYED)
def rt_sigreturn(task: Task) -> Result:
    """Leave a signal handler: all registers come from the frame on the stack."""
    sigreturn(task)
    return NO_RESULT


def _check(signo: int) -> None:
    if not 0 <= signo <= SIGNAL_COUNT:
        raise fail(errno.EINVAL)


def _processes(task: Task, target: int) -> list[Process]:
    """Return the processes that kill means by a number: one, a group, or all but the caller's own."""
    kernel = task.kernel
    if target > 0:
        found = kernel.processes.get(target) or _process_of_thread(task, target)
        return [] if found is None else [found]
    if target == -1:
        return [one for one in kernel.live() if one is not task.process]
    return kernel.group(-target or task.process.group)


def _process_of_thread(task: Task, number: int) -> Process | None:
    thread = task.kernel.task(number)
    return None if thread is None else thread.process


@syscall(62, "kill", S32, S32, effect=Effect.PLAYED)
def kill(task: Task, target: int, signo: int) -> int:
    """Send a signal to a process or a group of the guest. Of others the guest knows nothing: ESRCH."""
    _check(signo)
    if target == INIT:
        return -errno.EPERM
    found = _processes(task, target)
    if not found:
        return -errno.ESRCH
    results = [_kill(task, process, signo) for process in found]
    if target == -1:  # of those that it may not send to it need not know
        return next((one for one in results if one not in (0, -errno.EPERM)), 0)
    return 0 if 0 in results else results[-1]


def _kill(task: Task, process: Process, signo: int) -> int:
    if not may_signal(task, process.leader, signo):
        return -errno.EPERM
    return task.kernel.kill(task.process, process, signo)


def _thread(task: Task, number: int, group: int | None) -> ProcessThread:
    """Return a thread by its number, of a process if `group` names one. ESRCH."""
    found = task.kernel.task(number)
    if found is None or (group is not None and found.process.pid != group):
        raise fail(errno.ESRCH)
    return found


def _to_thread(task: Task, number: int, group: int | None, info: SignalInfo) -> int:
    _check(info.signo)
    if number <= 0 or (group is not None and group <= 0):
        return -errno.EINVAL
    target = _thread(task, number, group)
    if not may_signal(task, target, info.signo):
        return -errno.EPERM
    return task.kernel.send_thread(target, info) if info.signo else 0


def _from(task: Task, signo: int, code: int) -> SignalInfo:
    return SignalInfo(signo, code, pid=task.process.pid, uid=os.getuid())


@syscall(200, "tkill", S32, S32, effect=Effect.PLAYED)
def tkill(task: Task, thread: int, signo: int) -> int:
    """Send a signal to a thread."""
    return _to_thread(task, thread, None, _from(task, signo, SI_TKILL))


@syscall(234, "tgkill", S32, S32, S32, effect=Effect.PLAYED)
def tgkill(task: Task, group: int, thread: int, signo: int) -> int:
    """Send a signal to a thread of a process."""
    return _to_thread(task, thread, group, _from(task, signo, SI_TKILL))


def _read_info(task: Task, signo: int, pointer: int) -> SignalInfo:
    data = task.memory.read(pointer, SIGINFO_BYTES)
    (code,) = struct.unpack_from("<i", data, 8)
    pid, uid, value = struct.unpack_from("<IIQ", data, 16)
    (address,) = struct.unpack_from("<Q", data, 16)
    return SignalInfo(signo, code, addr=address, pid=pid, uid=uid, value=value)


@syscall(129, "rt_sigqueueinfo", S32, S32, POINTER, effect=Effect.PLAYED)
def rt_sigqueueinfo(task: Task, target: int, signo: int, pointer: int) -> int:
    """Send a signal with a value. EPERM for one that pretends to come from the kernel, but to itself."""
    info = _read_info(task, signo, pointer)
    _check(signo)
    if target == INIT:
        return -errno.EPERM
    process = _processes(task, target)[0] if target > 0 and _processes(task, target) else None
    if process is None:
        return -errno.ESRCH
    if process is not task.process and (info.code >= 0 or info.code == SI_TKILL):
        return -errno.EPERM
    if not may_signal(task, process.leader, signo):
        return -errno.EPERM
    return 0 if not signo or task.kernel.send(process, info) else -errno.EAGAIN


@syscall(297, "rt_tgsigqueueinfo", S32, S32, S32, POINTER, effect=Effect.PLAYED)
def rt_tgsigqueueinfo(task: Task, group: int, thread: int, signo: int, pointer: int) -> int:
    """Send a signal with a value to a thread."""
    info = _read_info(task, signo, pointer)
    if group != task.process.pid and (info.code >= 0 or info.code == SI_TKILL):
        return -errno.EPERM
    return _to_thread(task, thread, group, info)
