"""Who may signal whom, and what a process must register for; sockets that have a time to wait."""

import errno
import signal
import socket
import struct
from collections.abc import Iterator

import pytest
from syscall_fakes import BASE, FakeProcess

from quire.guest.kernel.credentials import Credentials, Ids
from quire.guest.kernel.system import FIRST_PID
from quire.guest.syscalls.state import copy_thread_state, thread_state

KILL, TKILL, TGKILL, QUEUE, BARRIER = 62, 200, 234, 129, 324
RECVFROM, SENDTO, CONNECT, WAITALL = 45, 44, 42, 0x100
EPERM = -errno.EPERM
OTHER = FIRST_PID + 1


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def become(process: FakeProcess, real: int, effective: int, saved: int, *, root: bool = False) -> None:
    users = Ids(real, effective, saved, effective)
    state = thread_state(process)  # type: ignore[arg-type]
    state.credentials = Credentials(users, users, (), root=root)


def another(process: FakeProcess) -> FakeProcess:
    """Return a process of the same kernel."""
    made = FakeProcess()
    made.process.pid = made.tid = OTHER
    made.process.group = made.process.session = OTHER
    made.process.threads = {OTHER: made}  # type: ignore[dict-item]
    copy_thread_state(process, made)  # type: ignore[arg-type]
    process.kernel.processes[OTHER] = made.process
    process.kernel.enter(made)  # type: ignore[arg-type]
    return made


def ways(process: FakeProcess, signo: int) -> set[int]:
    """Return what all ways answer to send a signal to the other process."""
    process.memory.write(BASE, struct.pack("<iii", signo, 0, -1).ljust(128, b"\0"))
    return {
        process.call(KILL, OTHER, signo),
        process.call(TKILL, OTHER, signo),
        process.call(TGKILL, OTHER, OTHER, signo),
        process.call(QUEUE, OTHER, signo, BASE),
    }


@pytest.mark.parametrize(
    ("own", "its", "may"),
    [
        ((1, 2, 3), (4, 5, 6), False),
        ((1, 2, 3), (2, 5, 6), True),  # its real one is the sender's effective one
        ((1, 2, 3), (4, 5, 2), True),  # its saved one
        ((1, 2, 3), (4, 2, 6), False),  # its effective one does not count
        ((1, 2, 3), (1, 5, 6), True),
        ((1, 2, 3), (4, 5, 1), True),
        ((1, 2, 3), (3, 3, 3), False),  # nor does the sender's saved one
    ],
)
def test_users_say_who_may_signal_whom(
    process: FakeProcess, own: tuple[int, int, int], its: tuple[int, int, int], may: bool
) -> None:
    other = another(process)
    become(process, *own)
    become(other, *its)
    for signo in (0, signal.SIGUSR1, signal.SIGKILL):
        assert ways(process, signo) == {0 if may else EPERM}
    assert bool(other.signals.pending) == may
    become(process, 0, 0, 0, root=True)
    assert ways(process, 0) == {0}


def test_a_session_may_continue_its_own(process: FakeProcess) -> None:
    other = another(process)
    become(process, 1, 1, 1)
    become(other, 2, 2, 2)
    assert ways(process, signal.SIGCONT) == {EPERM}
    other.process.session = process.process.session
    assert ways(process, signal.SIGCONT) == {0} and ways(process, signal.SIGSTOP) == {EPERM}


def test_of_many_one_is_enough(process: FakeProcess) -> None:
    other = another(process)
    become(process, 1, 1, 1)
    become(other, 2, 2, 2)
    assert process.call(KILL, -1, signal.SIGUSR2) == 0  # of those that it may not reach it need not know
    assert process.call(KILL, -OTHER, signal.SIGUSR2) == EPERM
    other.process.group = process.process.group
    assert process.call(KILL, 0, signal.SIGURG) == 0
    assert not other.signals.pending


def test_barriers_want_registration(process: FakeProcess) -> None:
    assert process.call(BARRIER, 8) == process.call(BARRIER, 32) == EPERM
    assert process.call(BARRIER, 512) == 0
    assert process.call(BARRIER, 16) == 0 and process.call(BARRIER, 8) == 0
    assert process.call(BARRIER, 32) == EPERM
    assert process.call(BARRIER, 64) == process.call(BARRIER, 32) == process.call(BARRIER, 2) == 0
    assert process.call(BARRIER, 512) == 16 | 64
    supported = process.call(BARRIER, 0)
    for bit in range(31):
        for flags in (0, 1):
            known = supported >> bit & 1 and (not flags or 1 << bit == 128)
            assert (process.call(BARRIER, 1 << bit, flags) != -errno.EINVAL) == known
    assert process.call(BARRIER, 3) == process.call(BARRIER, (1 << 64) - 1) == -errno.EINVAL


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


def give_time(one: socket.socket, option: int) -> None:
    one.setsockopt(socket.SOL_SOCKET, option, struct.pack("<qq", 0, 5000))


def test_a_socket_waits_for_its_time_alone(
    process: FakeProcess, pair: tuple[socket.socket, socket.socket]
) -> None:
    left, right = pair
    give_time(left, socket.SO_RCVTIMEO)
    assert process.call(RECVFROM, left.fileno(), BASE, 8, 0, 0, 0) == -errno.EAGAIN
    assert process.call(0, left.fileno(), BASE, 8) == -errno.EAGAIN
    right.send(b"abc")
    assert process.call(RECVFROM, left.fileno(), BASE, 8, WAITALL, 0, 0) == 3
    assert process.memory.read(BASE, 3) == b"abc"
    give_time(left, socket.SO_SNDTIMEO)
    sent = 0
    while (result := process.call(SENDTO, left.fileno(), BASE, 65536, 0, 0, 0)) > 0:
        sent += result
    assert result == -errno.EAGAIN and sent > 65536


def test_all_of_a_message_comes_though_it_comes_in_parts(
    process: FakeProcess, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = pair
    parts = [b"ab", b"c", b"defg"]
    right.send(parts.pop(0))
    monkeypatch.setattr(process, "wait_for", lambda wait: right.send(parts.pop(0)))
    assert process.call(RECVFROM, left.fileno(), BASE, 6, WAITALL, 0, 0) == 6
    assert process.memory.read(BASE, 6) == b"abcdef" and not parts


def test_addresses_are_checked(process: FakeProcess) -> None:
    one = socket.socket()
    for length in (129, 1 << 31, (1 << 32) - 1):
        assert process.call(CONNECT, one.fileno(), BASE, length) == -errno.EINVAL
    assert process.call(CONNECT, one.fileno(), 8, 16) == -errno.EFAULT
    assert process.call(CONNECT, 0, BASE, 16) == -errno.ENOTSOCK
    one.close()
