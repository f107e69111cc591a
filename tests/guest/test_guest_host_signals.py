"""Signals that the host sends Quire: what is taken, with what it says, who is woken, and what is left as it was."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from limits import PATIENCE

from quire.guest.host_signals import WAKE_UP, HostSignals
from quire.guest.kernel.siginfo import Owner, OwnerKind, SignalInfo


def _taken(signals: HostSignals, count: int) -> list[SignalInfo]:
    found: list[SignalInfo] = []
    while len(found) < count:
        found += signals.take()
    return found


def _state() -> object:
    handlers = [signal.getsignal(n) for n in signal.valid_signals() if n not in (9, 19, 32, 33)]
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ()), len(os.listdir("/proc/self/fd"))


_ALONE = """
import ctypes, os, signal, threading, time
from quire.guest.host_signals import HostSignals
libc = ctypes.CDLL(None)
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
woken, found = threading.Event(), []
with HostSignals(woken.set) as signals:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGABRT, 64):
        os.kill(os.getpid(), number)
    for value in range(5):
        libc.sigqueue(os.getpid(), 36, value)
    assert woken.wait()
    while len(found) < 9:
        found += signals.take()
assert all((one.pid, one.uid) == (os.getpid(), os.getuid()) for one in found)
print(sorted((one.signo, one.code) for one in found if one.signo != 36))
print([(one.code, one.value) for one in found if one.signo == 36])
"""


def test_signals_come_with_their_sender_and_as_often_as_they_were_sent() -> None:
    """In a process without threads of libraries."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE], capture_output=True, text=True, env=env, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "[(6, 0), (10, 0), (15, 0), (64, 0)]\n[(-1, 0), (-1, 1), (-1, 2), (-1, 3), (-1, 4)]\n"
    )


def test_everything_is_left_as_it_was() -> None:
    before = _state()
    with HostSignals(lambda: None) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert [info.signo for info in _taken(signals, 1)] == [signal.SIGTERM]
    assert _state() == before


def test_a_moment_wakes_a_sleeping_call() -> None:
    """The call of the host ends with EINTR, which Python's own would hide."""
    from quire.guest.syscalls import host

    with HostSignals(lambda: None) as signals:
        signals.wake_at(time.monotonic_ns() + 1_000_000)
        pause = host.HostBuffer(16, (1 << 40).to_bytes(8, "little") + bytes(8))
        assert host.call(35, pause.address, 0) == -4
        signals.wake_at(None)


def test_a_signal_that_a_thread_of_a_library_gets_is_not_lost() -> None:
    ready, end = threading.Event(), threading.Event()

    def foreign() -> None:
        ready.set()
        end.wait(PATIENCE)

    thread = threading.Thread(target=foreign)
    thread.start()
    ready.wait(PATIENCE)
    try:
        with HostSignals(lambda: None) as signals:
            assert thread.native_id is not None
            signal.pthread_kill(thread.ident or 0, signal.SIGUSR2)
            assert [info.signo for info in _taken(signals, 1)] == [signal.SIGUSR2]
    finally:
        end.set()
        thread.join()


def test_a_stop_is_made_in_any_thread_and_ends_when_something_continues() -> None:
    """In a process of its own, which is stopped and continued by this one."""
    code = """
import signal, threading
from quire.guest.host_signals import HostSignals
with HostSignals(lambda: None) as signals:
    thread = threading.Thread(target=signals.stop, args=(signal.SIGTSTP,))
    thread.start()
    thread.join()
    found = []
    while not found:
        found = signals.take()
    print([info.signo for info in found], signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, process_group=0) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTSTP
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=PATIENCE)[0] == b"[18] False\n"


@pytest.mark.parametrize("leads", [True, False])
def test_a_group_is_orphaned_whose_parents_are_of_other_sessions(leads: bool) -> None:
    code = "from quire.guest.host_group import HostGroup; print(HostGroup.now().is_orphaned)"
    own = {"start_new_session": True} if leads else {"process_group": 0}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True, **own
    )
    assert done.stdout == f"{leads}\n"


def test_what_the_guest_inherits() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with HostSignals(lambda: None) as signals:
            assert signals.mask_before == 1 << signal.SIGUSR1 - 1
            assert signals.ignored_before & 1 and WAKE_UP == 33
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _owned(signals: HostSignals, owner: Owner, there: set[Owner]) -> tuple[socket.socket, socket.socket]:
    mine, theirs = socket.socketpair()
    thread = signals.stand_in(owner, there.__contains__)
    fcntl.fcntl(mine, 15, struct.pack("<Ii", 0, thread))  # F_SETOWN_EX
    fcntl.fcntl(mine, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    assert signals.owner_of(thread) == owner
    return mine, theirs


def test_who_owns_an_open_file_is_told_by_a_thread_that_stands_in() -> None:
    """What the host has sent is there at once; an owner that has gone is nobody's; nothing is left behind."""
    before = _state()
    one, other = Owner(OwnerKind.PROCESS, 100), Owner(OwnerKind.GROUP, 100)
    with HostSignals(lambda: None) as signals:
        there = {one, other}
        sockets = [*_owned(signals, one, there), *_owned(signals, other, there)]
        for ready, owner in ((sockets[1], one), (sockets[3], other), (sockets[1], one)):
            ready.send(b"x")
            assert [(info.signo, info.to) for info in signals.take()] == [(signal.SIGIO, owner)]
        os.kill(os.getpid(), signal.SIGIO)
        assert [(info.signo, info.to) for info in _taken(signals, 1)] == [(signal.SIGIO, None)]
        there.clear()
        fresh = Owner(OwnerKind.THREAD, 7)
        signals.stand_in(fresh, there.__contains__)
        sockets[1].send(b"x")
        assert signals.take() == [] and struct.unpack("<Ii", fcntl.fcntl(sockets[0], 16, bytes(8)))[1] == 0
        for one_end in sockets:
            one_end.close()
    assert _state() == before


def test_so_many_stand_in_and_no_more() -> None:
    with HostSignals(lambda: None) as signals:
        for number in range(64):
            signals.stand_in(Owner(OwnerKind.PROCESS, number + 1), lambda _: True)
        with pytest.raises(BlockingIOError):
            signals.stand_in(Owner(OwnerKind.PROCESS, 900), lambda _: True)
