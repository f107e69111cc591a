"""Signals that the host sends Quire while a guest runs: taken out of the host's queue, and handed to the guest.

All of them are blocked and read from a signalfd, so each arrives with its siginfo, real-time ones in order and as
often as they were sent, and none ends Quire. A thread reads, because no Python runs while the Cpu does. It also wakes
the guest at the times that its timers ask for. Use as a context manager, in the main thread, which runs the guest.

Left alone is :data:`WAKE_UP`, which ends a call of the host in which the guest sleeps. SIGTTIN and SIGTTOU are blocked
as all are, so that the host's terminal does not stop Quire in the background: the guest's kernel asks who is in front.

A thread that some library made blocks nothing and may be given a signal: then Python's handler notes its number, and
who sent it is not known.
"""

import ctypes
import os
import select
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from quire.guest.host_group import HostGroup
from quire.guest.kernel.actions import SIGNAL_COUNT, signal_bit
from quire.guest.kernel.siginfo import SI_USER, Owner, SignalInfo
from quire.guest.stand_ins import INFO_BYTES, StandIns
from quire.guest.syscalls import host
from quire.own_descriptors import move_high

__all__ = ["WAKE_UP", "HostSignals"]

#: The C library keeps this number for itself (SIGSETXID), so no program can have it sent to Quire for the guest.
WAKE_UP = 33
_TAKEN = ((1 << SIGNAL_COUNT) - 1) & ~signal_bit(WAKE_UP)

_SIGACTION, _SIGPROCMASK, _TGKILL, _SIGNALFD4 = 13, 14, 234, 289
#: What is written to the pipe to wake the thread; signals write their number.
_NO_SIGNAL = b"\0"
_BLOCK, _UNBLOCK, _SETMASK = 0, 1, 2
_ACTION = struct.Struct("<QQQQ")  # the kernel's struct sigaction: handler, flags, restorer, mask
_RESTORER = 0x0400_0000
#: struct signalfd_siginfo as far as a guest can see it.
_INFO = struct.Struct("<IiiIIiIIIIiiQQQQ")
#: A sleeping call that began just after it was looked for is ended this much later (seconds).
_AGAIN = 0.02
#: The most that a wait may last, in ms: a C int; a longer one is made of several.
_LONGEST = 0x7FFF_FFFF
#: A timer interrupts at most so often (ns): a guest whose timers are shorter than a system call still goes on.
_SHORTEST = 1_000_000


class HostSignals:
    """Takes signals between enter and exit; calls `interrupt` from a thread until what came is taken."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._waiting: deque[SignalInfo] = deque()  # both threads put in, the guest's takes out
        self._moment: int | None = None
        self._closing = False
        self._armed = threading.Event()
        self._handlers: dict[int, Any] = {}

    def take(self) -> list[SignalInfo]:
        """Return the signals that came since the last call, oldest first."""
        self._drain_awake()
        self._stand_ins.settle()
        self._read()  # what was sent to the main thread alone, which no other thread can read
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def wake_at(self, moment: int | None) -> None:
        """Interrupt the guest at `moment`, in ns of CLOCK_MONOTONIC, instead of when asked before; None for never."""
        self._moment = moment
        self._nudge()

    def stop(self, signo: int) -> None:
        """Stop this process as stop signal `signo` does; return when something continues it. Any thread may call it."""
        wanted, before = host.HostBuffer(8, signal_bit(signo).to_bytes(8, "little")), host.HostBuffer(8)
        default, action = host.HostBuffer(_ACTION.size), host.HostBuffer(_ACTION.size)
        host.call(_SIGACTION, signo, default.address, action.address, 8)  # which refuses it for SIGSTOP
        host.call(_SIGPROCMASK, _UNBLOCK, wanted.address, before.address, 8)
        try:
            host.call(_TGKILL, os.getpid(), threading.get_native_id(), signo)
        finally:
            host.call(_SIGPROCMASK, _SETMASK, before.address, 0, 8)
            if signo != signal.SIGSTOP:
                host.call(_SIGACTION, signo, action.address, 0, 8)

    def is_orphaned(self) -> bool:
        """Whether this process's group is orphaned: nobody would bring it back if it stopped."""
        return self._group.is_orphaned

    def sleep(self, left: int | None) -> None:
        """Wait for a signal, for up to `left` ns, None for ever."""
        wake = select.poll()
        wake.register(self._awake, select.POLLIN)
        wake.poll(None if left is None else -(-left // 1_000_000))
        self._drain_awake()

    def wake_descriptor(self) -> int | None:
        """Return a descriptor that can be read when a signal has come since :meth:`take`."""
        return self._awake

    def stand_in(self, owner: Owner, is_there: Callable[[Owner], bool]) -> int:
        """Return the number of a thread that gets what the host sends `owner`. Raises OSError."""
        return self._stand_ins.find(owner, is_there)

    def owner_of(self, thread: int) -> Owner | None:
        """Return whom a thread stands in for."""
        return self._stand_ins.owner_of(thread)

    def _hear(self, info: SignalInfo) -> None:
        """Take what a thread got that stands in for an owner."""
        self._waiting.append(info)
        self._nudge()

    def _drain_awake(self) -> None:
        try:
            os.eventfd_read(self._awake)
        except BlockingIOError:
            pass

    def __enter__(self) -> Self:
        self._main = threading.get_native_id()
        self._group = HostGroup.now()
        mask = host.HostBuffer(8, _TAKEN.to_bytes(8, "little"))
        self._mask_before = host.HostBuffer(8)
        self._wake_before = host.HostBuffer(_ACTION.size)
        opened = host.call(_SIGNALFD4, -1, mask.address, 8, os.O_CLOEXEC | os.O_NONBLOCK)
        if opened < 0:
            raise OSError(-opened, os.strerror(-opened))
        self._signals = move_high(opened)
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._awake = move_high(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._reader, self._writer = move_high(reader), move_high(writer)
        self._stand_ins = StandIns(_info, self._hear, self._writer)
        for number in _signals(_TAKEN):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, _handled_by_the_wakeup)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        host.call(_SIGPROCMASK, _BLOCK, mask.address, self._mask_before.address, 8)  # the thread inherits it
        self._thread = threading.Thread(target=self._watch, name="quire-signals", daemon=True)
        self._thread.start()
        # After the start: with the first thread of a process the C library puts a handler of its own there.
        waking = _waking_action()
        host.call(_SIGACTION, WAKE_UP, waking.address, self._wake_before.address, 8)
        self._armed.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._stand_ins.close()
        self._closing = True
        self._nudge()
        self._thread.join()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        host.call(_SIGPROCMASK, _SETMASK, self._mask_before.address, 0, 8)
        host.call(_SIGACTION, WAKE_UP, self._wake_before.address, 0, 8)
        os.close(self._signals)
        os.close(self._reader)
        os.close(self._awake)
        os.close(self._writer)

    @property
    def mask_before(self) -> int:
        """The set of signals that were blocked before: a program that starts inherits it."""
        return int.from_bytes(self._mask_before.take(), "little")

    @property
    def ignored_before(self) -> int:
        """The set of signals that were ignored before, but for those that Python ignores by itself."""
        pythons = (signal.SIGPIPE, signal.SIGXFSZ)
        ignored = (n for n in _signals(_TAKEN) if signal.getsignal(n) is signal.SIG_IGN and n not in pythons)
        return sum(signal_bit(number) for number in ignored)

    def _nudge(self) -> None:
        """Have the thread look at what changed."""
        try:
            os.write(self._writer, _NO_SIGNAL)
        except BlockingIOError:
            pass  # the pipe is full: it will look anyway

    def _read(self) -> None:
        """Put what waits in the host's queue into ours."""
        while True:
            try:
                data = os.read(self._signals, 16 * INFO_BYTES)
            except BlockingIOError:
                return
            self._waiting.extend(_info(data[at : at + INFO_BYTES]) for at in range(0, len(data), INFO_BYTES))

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self._reader, select.POLLIN)
        earliest = 0
        self._armed.wait()
        while not self._closing:
            now = time.monotonic_ns()
            due = self._moment is not None and max(self._moment, earliest) <= now
            if self._waiting or due:
                if due:
                    earliest = now + _SHORTEST
                self._wake()
            poll.poll(self._patience(now, earliest))
            self._drain()
            self._read()

    def _drain(self) -> None:
        """Empty the pipe, and note the signals that threads of libraries were given."""
        try:
            numbers = os.read(self._reader, 4096)
        except BlockingIOError:
            return
        user, parent = os.getuid(), os.getppid()
        self._waiting.extend(
            SignalInfo(number, SI_USER, pid=parent, uid=user) for number in numbers if number
        )

    def _patience(self, now: int, earliest: int) -> float | None:
        """Return how many ms to wait for something to happen, None for ever."""
        if self._waiting:
            return _AGAIN * 1000
        moment = self._moment
        if moment is None:
            return None
        return min((max(moment, earliest) - now) / 1e6, _LONGEST)

    def _wake(self) -> None:
        """Interrupt the guest, in its instructions or in a call of the host in which it sleeps."""
        self._interrupt()
        os.eventfd_write(self._awake, 1)
        host.call(_TGKILL, os.getpid(), self._main, WAKE_UP)


def _signals(mask: int) -> list[int]:
    """Return the numbers in a signal set whose action a process may set."""
    fixed = (signal.SIGKILL, signal.SIGSTOP, 32)  # 32 is the C library's (SIGCANCEL)
    return [
        number for number in range(1, SIGNAL_COUNT + 1) if mask & signal_bit(number) and number not in fixed
    ]


def _handled_by_the_wakeup(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the pipe already."""


def _info(data: bytes) -> SignalInfo:
    signo, _, code, pid, uid, fd, _, band, _, _, status, _, value, _, _, address = _INFO.unpack_from(data)
    return SignalInfo(
        signo, code, addr=address, pid=pid, uid=uid, value=value, status=status, fd=fd, band=band
    )


def _waking_action() -> host.HostBuffer:
    """Return an action whose handler does nothing, so that all that its signal does is to end a sleeping call.

    The handler is abs() of the C library: it takes the signal's number and returns. The way back into the kernel is the
    one that the library gives each handler, read from one that is set for a moment.
    """
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    found = host.HostBuffer(_ACTION.size)
    host.call(_SIGACTION, signal.SIGUSR2, 0, found.address, 8)
    signal.signal(signal.SIGUSR2, before)
    _, _, restorer, _ = _ACTION.unpack(found.take())
    handler = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value or 0
    return host.HostBuffer(_ACTION.size, _ACTION.pack(handler, _RESTORER, restorer, 0))
