"""Waiting in a system call: for signals, for descriptors, for time, and under another signal mask."""

import os
import select
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EINTR, EINVAL
from socket import MSG_DONTWAIT, SOL_SOCKET
from typing import NoReturn

from quire.guest.kernel.siginfo import SI_USER, SignalInfo
from quire.guest.kernel.task import Interruptible, Task, ThreadGroup
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import fail

__all__ = [
    "await_ready",
    "deadline",
    "doomed",
    "interrupted",
    "is_blocking",
    "is_streaming",
    "patiently",
    "raise_sigpipe",
    "read_mask",
    "ready",
    "replaced_mask",
    "wait_for_lock",
    "wait_for_room",
    "wait_for_signal",
]

_MASK_BYTES = 8
#: Between two tries to get a lock: ns of the guest, seconds of the host.
_LOCK_WAIT, _LOCK_SECONDS = 1_000_000, 0.001
_POLL = 7
_FCNTL, _GETFL = 72, 3
_GETSOCKOPT, _SO_RCVTIMEO, _SO_SNDTIMEO = 55, 20, 21

Wait = Callable[[Callable[[], int]], int]


def interrupted(task: Interruptible) -> bool:
    """Whether a signal waits that the guest does not block: its blocked call must end."""
    task.collect_signals()
    return task.signals.deliverable


def doomed(task: Interruptible) -> bool:
    """Whether a signal waits that will kill the task: long work for it must end."""
    task.collect_signals()
    return task.signals.fatal


def deadline(task: Task, left: int | None) -> int | None:
    """Return the moment at which a call ends that may wait for `left` ns; the same each time the call is made again."""
    if left is None:
        return None
    return task.kept.setdefault("until", task.kernel.clock.now() + left)


def wait_for_signal(task: Task, until: int | None, mask: int = 0) -> bool:
    """Wait until a signal for the guest arrives (True), or until the moment `until` (False).

    With `mask`, a signal of that set counts as well, though the guest blocks it.
    """
    if interrupted(task) or task.signals.pending & mask:
        return True
    if until is not None and task.kernel.clock.now() >= until:
        return False
    task.awaits = mask
    raise Blocks(until=until)


def is_blocking(descriptor: int) -> bool:
    """Whether calls on a descriptor may wait: it has no O_NONBLOCK."""
    flags = host.call(_FCNTL, descriptor, _GETFL)
    return flags >= 0 and not flags & os.O_NONBLOCK


def is_streaming(descriptor: int) -> bool:
    """Whether a write to a descriptor waits until all is written: it is a pipe or a socket without O_NONBLOCK."""
    mode = os.fstat(descriptor).st_mode
    return (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and is_blocking(descriptor)


def _patience(descriptor: int, events: int) -> int | None:
    """Return for how many ns a socket is to be waited for, by SO_RCVTIMEO or SO_SNDTIMEO; None for ever."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    option = _SO_RCVTIMEO if events & select.POLLIN else _SO_SNDTIMEO
    value, length = host.HostBuffer(16), host.HostBuffer(4, struct.pack("<i", 16))
    if host.call(_GETSOCKOPT, descriptor, SOL_SOCKET, option, value.address, length.address) < 0:
        return None
    seconds, micros = struct.unpack("<qq", value.take())
    return (min(seconds, 1 << 32) * 1_000_000 + micros) * 1000 or None


def await_ready(task: Task, descriptor: int, events: int, late: int = EAGAIN) -> NoReturn:
    """Wait until a descriptor has one of `events` (poll(2)): the call is made again then.

    A socket may have a time to wait: when that is over the call fails with `late`.
    """
    until = deadline(task, _patience(descriptor, events))
    if until is not None and task.kernel.clock.now() >= until:
        raise fail(late)
    raise Blocks(files=((descriptor, events),), until=until, timed=until is not None)


def patiently(task: Task, descriptor: int, events: int, flags: int, make: Callable[[int], int]) -> int:
    """Make a call of a socket with MSG_DONTWAIT; where the guest's would wait, have it made again when it need not."""
    result = make(flags | MSG_DONTWAIT)
    if result == -EAGAIN and not flags & MSG_DONTWAIT and is_blocking(descriptor):
        await_ready(task, descriptor, events)
    return result


def wait_for_lock(task: Task) -> NoReturn:
    """Wait a little for who has a lock: no host tells when it is free, so the call is made again and again."""
    if task.signals.deliverable:
        raise fail(EINTR)
    if not task.kernel.has_company:
        time.sleep(_LOCK_SECONDS)
    raise Blocks(until=task.kernel.clock.now() + _LOCK_WAIT)


def wait_for_room(task: Task, descriptor: int) -> NoReturn:
    """Wait a little for room in the queue of a socket that listens, for as long as SO_SNDTIMEO says: EAGAIN."""
    end = deadline(task, _patience(descriptor, select.POLLOUT))
    now = task.kernel.clock.now()
    if end is not None and now >= end:
        raise fail(EAGAIN)
    if not task.kernel.has_company:
        time.sleep(_LOCK_SECONDS)
    raise Blocks(until=min(now + _LOCK_WAIT, end or now + _LOCK_WAIT), timed=end is not None)


def ready(descriptor: int, events: int) -> bool:
    """Whether a descriptor has one of `events`, or an error, now."""
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))


def raise_sigpipe(task: Interruptible) -> None:
    """Send the guest SIGPIPE: it wrote where nobody reads.

    (The host's own went to Python, which ignores it.)
    """
    task.signals.queue(SignalInfo(signal.SIGPIPE, SI_USER, pid=task.process.pid, uid=os.getuid()))


def read_mask(group: ThreadGroup, pointer: int, size: int) -> int | None:
    """Return the signal set at `pointer`, None for a null pointer. EINVAL for a set of the wrong size."""
    if not pointer:
        return None
    if size != _MASK_BYTES:
        raise fail(EINVAL)
    return group.memory.read_u64(pointer)


@contextmanager
def replaced_mask(task: Task, mask: int | None) -> Iterator[Wait]:
    """Wait under another mask, as ppoll does; yields how to make the waiting call.

    The old mask comes back at the end; when a signal ended the wait, its handler runs under the new mask
    first. While the call waits the new mask stays.
    """
    if mask is None:
        yield lambda call: call()
        return
    signals = task.signals
    before = task.kept.setdefault("mask", signals.mask)
    signals.mask = mask
    result = 0

    def wait(call: Callable[[], int]) -> int:
        nonlocal result
        try:
            result = -EINTR if interrupted(task) else call()
        except Blocks:
            if not signals.deliverable:
                raise
            result = -EINTR
        return result

    try:
        yield wait
    except Blocks:
        raise
    except BaseException:
        signals.mask = before
        raise
    if result == -EINTR and interrupted(task):
        signals.saved_mask = before
    else:
        signals.mask = before
