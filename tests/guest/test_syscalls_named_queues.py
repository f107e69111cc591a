"""POSIX message queues, call by call: what a guest asks for is bounded, and what it holds is counted."""

import errno
import os
import socket
import struct

import pytest
from syscall_fakes import BASE, HOLE, FakeProcess

from quire.guest.kernel.siginfo import SI_MESGQ

OPEN, UNLINK, SEND, RECEIVE, NOTIFY, ATTRIBUTES = 240, 241, 242, 243, 244, 245
LIMIT, RECVFROM = 12, 45
MADE = os.O_CREAT | os.O_RDWR | os.O_NONBLOCK


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def opened(process: FakeProcess, name: str, most: int, size: int, flags: int = MADE) -> int:
    return process.call(
        OPEN, process.path(name), flags, 0o600, process.words(BASE, 0, most, size, 0, 0, 0, 0, 0)
    )


def test_sizes_are_bounded(process: FakeProcess) -> None:
    for most, size in (
        (0, 1),
        (1, 0),
        (-1, 1),
        (1, -1),
        (1 << 62, 1),
        (1, 1 << 62),
        (65537, 1),
        (1, (16 << 20) + 1),
    ):
        assert opened(process, "q", most, size) == -errno.EINVAL
    assert opened(process, "q", 65536, 16 << 20) == -errno.EMFILE  # RLIMIT_MSGQUEUE
    assert process.call(OPEN, process.path("q"), MADE, 0o600, HOLE) == -errno.EFAULT
    assert process.call(OPEN, process.path("q"), MADE | 3, 0o600, 0) == -errno.EINVAL


def test_names(process: FakeProcess) -> None:
    for name, error in (
        ("", errno.ENOENT),
        ("a/b", errno.EACCES),
        ("..", errno.EACCES),
        ("x" * 256, errno.ENAMETOOLONG),
        ("x" * 4096, errno.ENAMETOOLONG),
    ):
        assert opened(process, name, 1, 1) == process.call(UNLINK, process.path(name)) == -error
    assert process.call(OPEN, HOLE, MADE, 0o600, 0) == -errno.EFAULT
    one = opened(process, "x" * 255, 1, 1)
    assert one >= 0 and process.call(UNLINK, process.path("x" * 255)) == 0
    os.close(one)


def test_the_limit_counts_queues_until_they_are_closed(process: FakeProcess) -> None:
    process.words(BASE, 5000, 5000)
    assert process.call(160, LIMIT, BASE) == 0
    first = opened(process, "a", 1, 3000)
    assert first >= 0 and opened(process, "b", 1, 3000) == -errno.EMFILE
    assert process.call(UNLINK, process.path("a")) == 0
    assert opened(process, "b", 1, 3000) == -errno.EMFILE
    os.close(first)
    second = opened(process, "b", 1, 3000)
    assert second >= 0
    os.close(second)


def test_messages_are_counted_against_the_guests_memory(process: FakeProcess) -> None:
    process.words(BASE, -1, -1)
    assert process.call(160, LIMIT, BASE) == 0
    queue = opened(process, "q", 60000, 4096)
    sent = 0
    while (result := process.call(SEND, queue, BASE, 4096, sent % 3, 0)) == 0:
        sent += 1
    assert result == -errno.ENOMEM and 14000 < sent < 16384
    priorities = []
    for _ in range(sent):
        assert process.call(RECEIVE, queue, BASE, 4096, BASE + 8192, 0) == 4096
        priorities.append(process.memory.read_u32(BASE + 8192))
    assert priorities == sorted(priorities, reverse=True)
    assert process.call(RECEIVE, queue, BASE, 4096, 0, 0) == -errno.EAGAIN
    assert process.machine.left == 64 << 20
    os.close(queue)


def test_a_queue_that_goes_gives_its_memory_back(process: FakeProcess) -> None:
    queue = opened(process, "q", 10, 8192)
    for _ in range(10):
        assert process.call(SEND, queue, BASE, 8192, 0, 0) == 0
    assert process.machine.left < 64 << 20
    assert process.call(UNLINK, process.path("q")) == 0
    os.close(queue)
    other = opened(process, "q", 1, 1)
    assert process.machine.left == 64 << 20
    os.close(other)


def test_who_wants_to_know_is_told_once(process: FakeProcess) -> None:
    queue = opened(process, "q", 4, 8)
    process.memory.write(BASE, struct.pack("<Qii", 1 << 40 | 7, 34, 0).ljust(64, b"\0"))
    process.signals.mask = -1
    assert process.call(NOTIFY, queue, BASE) == 0 and process.call(NOTIFY, queue, BASE) == -errno.EBUSY
    for _ in range(2):
        assert process.call(SEND, queue, BASE, 8, 0, 0) == 0
    found = process.signals.dequeue(-1)
    assert found is not None and (found.signo, found.code, found.value) == (34, SI_MESGQ, 1 << 40 | 7)
    assert process.signals.dequeue(-1) is None
    text = os.fsdecode(bytes(process.memory.read(BASE, process.call(0, queue, BASE, 4096))))
    assert text == f"QSIZE:{16:<10} NOTIFY:{0:<5} SIGNO:{0:<5} NOTIFY_PID:{0:<6}\n"
    assert process.call(NOTIFY, queue, HOLE) == process.call(ATTRIBUTES, queue, HOLE, 0) == -errno.EFAULT
    os.close(queue)


def test_a_thread_is_told_by_cookies(process: FakeProcess) -> None:
    """What it listens to is a netlink socket; nothing else is."""
    queue, cookie = opened(process, "t", 2, 8), bytes(range(32))
    process.memory.write(BASE + 512, cookie)

    def ask(descriptor: int, value: int = BASE + 512) -> int:
        process.memory.write(BASE, struct.pack("<Qii", value, descriptor, 2).ljust(64, b"\0"))
        return process.call(NOTIFY, queue, BASE)

    assert ask(9999) == -errno.EBADF and ask(queue) == -errno.ENOTSOCK and ask(queue, HOLE) == -errno.EFAULT
    with socket.socket() as stream:
        assert ask(stream.fileno()) == -errno.EINVAL
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as listener:
        assert ask(listener.fileno()) == 0 and ask(listener.fileno()) == -errno.EBUSY
        dontwait = socket.MSG_DONTWAIT
        assert process.call(RECVFROM, listener.fileno(), BASE, 32, dontwait, 0, 0) == -errno.EAGAIN
        assert process.call(SEND, queue, BASE, 1, 0, 0) == process.call(SEND, queue, BASE, 1, 0, 0) == 0
        assert process.call(RECVFROM, listener.fileno(), BASE, 32, dontwait, 0, 0) == 32
        assert process.memory.read(BASE, 32) == cookie[:-1] + b"\1"
        assert ask(listener.fileno()) == 0 and process.call(NOTIFY, queue, 0) == 0
        assert process.call(RECVFROM, listener.fileno(), BASE, 32, 0, 0, 0) == 32
        assert process.memory.read(BASE, 32) == cookie[:-1] + b"\2"
        assert process.call(RECVFROM, listener.fileno(), BASE, 32, dontwait, 0, 0) == -errno.EAGAIN
    os.close(queue)
