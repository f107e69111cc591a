"""Waiting for signals: what ends a blocked call, and calls that wait under another signal mask."""

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINTR, EINVAL

from quire.guest.kernel.siginfo import SI_USER, SignalInfo
from quire.guest.kernel.task import Interruptible, ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import fail

__all__ = ["doomed", "interrupted", "raise_sigpipe", "read_mask", "replaced_mask", "wait_for_signal"]

_MASK_BYTES = 8
_NANOSLEEP = 35
#: A host signal that arrives between the look and the sleep is seen this much later, at worst.
_SLICE = 0.05

Wait = Callable[[Callable[[], int]], int]


def interrupted(task: Interruptible) -> bool:
    """Whether a signal waits that the guest does not block: its blocked call must end."""
    task.collect_signals()
    return task.signals.deliverable


def doomed(task: Interruptible) -> bool:
    """Whether a signal waits that will kill the task: long work for it must end."""
    task.collect_signals()
    return task.signals.fatal


def wait_for_signal(task: Interruptible, deadline: float | None, mask: int = 0) -> bool:
    """Sleep until a signal for the guest arrives (True), or until `deadline` on the monotonic clock (False).

    With `mask`, a signal of that set counts as well, though the guest blocks it.
    """
    while not interrupted(task) and not task.signals.pending & mask:
        left = _SLICE if deadline is None else min(deadline - time.monotonic(), _SLICE)
        if left <= 0:
            return False
        pause = host.HostBuffer(16, struct.pack("<qq", 0, int(left * 1e9)))
        host.call(_NANOSLEEP, pause.address, 0)
    return True


def raise_sigpipe(task: Interruptible) -> None:
    """Send the guest SIGPIPE: it wrote where nobody reads.

    (The host's own went to Python, which ignores it.)
    """
    task.signals.queue(SignalInfo(signal.SIGPIPE, SI_USER, pid=os.getpid(), uid=os.getuid()))


def read_mask(group: ThreadGroup, pointer: int, size: int) -> int | None:
    """Return the signal set at `pointer`, None for a null pointer. EINVAL for a set of the wrong size."""
    if not pointer:
        return None
    if size != _MASK_BYTES:
        raise fail(EINVAL)
    return group.memory.read_u64(pointer)


@contextmanager
def replaced_mask(task: Interruptible, mask: int | None) -> Iterator[Wait]:
    """Wait under another mask, as ppoll does; yields how to make the waiting call.

    The old mask comes back at the end; when a signal ended the wait, its handler runs under the new mask
    first.
    """
    if mask is None:
        yield lambda call: call()
        return
    signals = task.signals
    before = signals.mask
    signals.mask = mask
    result = 0

    def wait(call: Callable[[], int]) -> int:
        nonlocal result
        result = -EINTR if interrupted(task) else call()
        return result

    try:
        yield wait
    finally:
        if result == -EINTR and interrupted(task):
            signals.saved_mask = before
        else:
            signals.mask = before
