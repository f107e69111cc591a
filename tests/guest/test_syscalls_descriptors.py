"""Descriptors: Quire's own are out of reach, numbers are those of a native run; ioctl, poll, sockets."""

import errno
import fcntl
import os
import pty
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from syscall_fakes import BASE, HIGH, HOLE, FakeProcess

from quire.own_descriptors import DESCRIPTOR_LIMITS

BADF = -errno.EBADF


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def reserved() -> Iterator[int]:
    """A descriptor of Quire's, open at 900 or above, on a memory file as its guest memory is."""
    file = os.memfd_create("quire")
    os.ftruncate(file, 4096)
    high = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(file)
    yield high
    os.close(high)


def test_quires_descriptors_do_not_exist(process: FakeProcess, reserved: int) -> None:
    for number in (0, 1, 3, 5, 8, 16, 17, 18, 19, 20, 32, 72, 74, 77, 81, 91, 93, 217, 254, 285, 292, 46, 47):
        assert process.call(number, reserved, BASE, 8, 0) == BADF, number
    assert process.call(9, 0, 4096, 1, 1, reserved, 0) == BADF
    assert process.call(33, 0, reserved) == BADF
    assert process.call(292, 0, reserved, 0) == BADF
    assert process.call(257, reserved, process.path("x"), 0) == BADF
    assert process.call(72, 0, fcntl.F_DUPFD, reserved) == -errno.EINVAL
    assert process.call(436, HIGH, (1 << 32) - 1, 0) == 0
    os.fstat(reserved)


def test_quires_memory_has_no_other_name(process: FakeProcess, reserved: int) -> None:
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_PATH):
        path = process.path(f"/proc/self/fd/{reserved}")
        assert process.call(2, path, flags, 0) == -errno.EACCES
    assert process.call(76, process.path(f"/dev/fd/{reserved}"), 0) == -errno.EACCES
    assert os.fstat(reserved).st_size == 4096
    for name in ("self/mem", "thread-self/mem", f"{process.tid}/mem"):
        assert process.call(2, process.path(f"/proc/{name}"), os.O_RDWR, 0) == -errno.EACCES
    assert process.call(2, process.path(f"/proc/self/task/{process.tid}/mem"), 0, 0) == -errno.EACCES


def test_a_guests_own_memory_file_may_be_reopened(process: FakeProcess) -> None:
    file = process.call(319, process.path("mine"), 0)
    mapped = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH)  # as a mapping of it holds it
    again = process.call(2, process.path(f"/proc/self/fd/{file}"), os.O_RDWR, 0)
    assert again >= 0
    for descriptor in (file, again, mapped):
        os.close(descriptor)


def test_rights_messages_cannot_pass_them_on(process: FakeProcess, reserved: int) -> None:
    left, right = socket.socketpair()
    control = struct.pack("<Qiii", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, reserved).ljust(24, b"\0")
    process.memory.write(BASE, control)
    vector = process.words(BASE + 64, BASE + 128, 1)
    header = struct.pack("<QIIQQQQIi", 0, 0, 0, vector, 1, BASE, 24, 0, 0)
    process.memory.write(BASE + 256, header)
    assert process.call(46, left.fileno(), BASE + 256, 0) == BADF
    left.close()
    right.close()


def test_lowest_number_and_limit(process: FakeProcess) -> None:
    lowest = os.dup(0)
    os.close(lowest)
    assert process.call(32, 0) == lowest
    assert process.call(302, 0, resource.RLIMIT_NOFILE, 0, BASE) == 0
    soft = process.memory.read_u64(BASE)
    assert soft == min(DESCRIPTOR_LIMITS[0], HIGH)
    limit = process.words(BASE, lowest + 1, lowest + 1)
    assert process.call(160, resource.RLIMIT_NOFILE, limit) == 0
    assert process.call(32, 0) == -errno.EMFILE
    assert process.call(2, process.path("/"), 0) == -errno.EMFILE
    assert process.call(22, BASE) == -errno.EMFILE
    assert process.call(33, 0, lowest + 1) == BADF
    assert process.call(3, lowest) == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != lowest + 1


def test_pipes(process: FakeProcess) -> None:
    assert process.call(293, HOLE, 0) == -errno.EFAULT
    before = set(os.listdir("/proc/self/fd"))
    assert process.call(293, BASE, os.O_CLOEXEC) == 0
    read, write = struct.unpack("<ii", process.memory.read(BASE, 8))
    assert len(set(os.listdir("/proc/self/fd")) - before) == 2
    assert not os.get_inheritable(read)
    process.memory.write(BASE + 8, b"hello")
    assert process.call(1, write, BASE + 8, 5) == 5
    assert process.call(16, read, 0x541B, BASE) == 0 and process.memory.read_u32(BASE) == 5
    assert process.call(0, read, BASE, 1 << 30) == 5
    process.call(3, read)
    assert process.call(1, write, BASE, 1) == -errno.EPIPE
    assert process.signals.deliverable and process.signals.dequeue(1 << 12).signo == 13  # type: ignore[union-attr]
    process.call(3, write)


def test_dup3_and_fcntl(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    fd = process.call(2, process.path(str(tmp_path / "f")), os.O_RDWR)
    assert process.call(292, fd, fd, 0) == -errno.EINVAL
    copy = process.call(72, fd, fcntl.F_DUPFD_CLOEXEC, 50)
    assert copy >= 50 and process.call(72, copy, fcntl.F_GETFD) == 1
    assert process.call(72, fd, fcntl.F_GETFL) & os.O_RDWR
    lock = struct.pack("<hhIqqii", fcntl.F_WRLCK, 0, 0, 0, 4, 0, 0)
    process.memory.write(BASE, lock)
    assert process.call(72, fd, fcntl.F_SETLK, BASE) == 0
    assert process.call(72, fd, fcntl.F_GETLK, BASE) == 0
    assert struct.unpack_from("<h", process.memory.read(BASE, 2))[0] == fcntl.F_UNLCK
    assert process.call(72, fd, fcntl.F_SETLK, HOLE) == -errno.EFAULT
    assert process.call(72, fd, 4444, 0) == -errno.EINVAL
    assert process.call(72, 555, 4444, 0) == BADF
    process.call(3, fd)
    process.call(3, copy)


def test_ioctl(process: FakeProcess) -> None:
    leader, terminal = pty.openpty()
    assert process.call(16, terminal, 0x5401, BASE) == 0
    assert process.call(16, terminal, 0x5402, BASE) == 0
    process.memory.write(BASE, struct.pack("<4H", 40, 100, 0, 0))
    assert process.call(16, terminal, 0x5414, BASE) == 0
    assert process.call(16, terminal, 0x5413, BASE + 8) == 0
    assert process.memory.read(BASE + 8, 4) == struct.pack("<HH", 40, 100)
    assert process.call(16, terminal, 0x5412, BASE) == -errno.ENOTTY  # TIOCSTI
    assert process.call(16, terminal, 0x5401, HOLE) == -errno.EFAULT
    assert process.call(16, terminal, 0x40049409, 0) == -errno.EOPNOTSUPP
    os.close(leader)
    os.close(terminal)


def test_poll(process: FakeProcess, reserved: int) -> None:
    read, write = os.pipe()
    process.memory.write(BASE, struct.pack("<ihhihh", read, 1, 0, write, 4, 0))
    assert process.call(7, BASE, 2, 1000) == 1
    assert struct.unpack("<ihhihh", process.memory.read(BASE, 16)) == (read, 1, 0, write, 4, 4)
    process.memory.write(BASE, struct.pack("<ihhihh", reserved, 1, 0, read, 1, 0))
    assert process.call(7, BASE, 2, -1) == 1
    assert struct.unpack("<ihhihh", process.memory.read(BASE, 16)) == (reserved, 1, 0x20, read, 1, 0)
    assert process.call(7, BASE, 1 << 20, 0) == -errno.EINVAL
    assert process.call(7, 0, 0, 1) == 0
    timeout = process.words(BASE + 64, 0, 1_000_000)
    process.memory.write(BASE, struct.pack("<ihh", read, 1, 0))
    assert process.call(271, BASE, 1, timeout, 0, 8) == 0
    assert process.memory.read(BASE + 64, 16) == bytes(16)
    os.close(read)
    os.close(write)


def test_select(process: FakeProcess) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    process.memory.write(BASE, (1 << read).to_bytes(128, "little"))
    process.memory.write(BASE + 256, (1 << write).to_bytes(128, "little"))
    assert process.call(23, 1024, BASE, BASE + 256, 0, 0) == 2
    assert int.from_bytes(process.memory.read(BASE, 128), "little") == 1 << read
    process.memory.write(BASE, (1 << 900).to_bytes(128, "little"))
    assert process.call(23, 1024, BASE, 0, 0, 0) == BADF
    assert process.call(23, 900, BASE, 0, 0, process.words(BASE + 512, 0, 0)) == 0
    assert process.call(270, -1, 0, 0, 0, 0, 0) == -errno.EINVAL
    timeout = process.words(BASE, 0, 1000)
    assert process.call(23, 0, 0, 0, 0, timeout) == 0
    os.close(read)
    os.close(write)


def test_epoll_and_eventfd(process: FakeProcess) -> None:
    event, poll = process.call(290, 3, 0), process.call(291, 0)
    process.memory.write(BASE, struct.pack("<IQ", 1, 77))
    assert process.call(233, poll, 1, event, BASE) == 0
    assert process.call(233, poll, 1, HIGH, BASE) == BADF
    assert process.call(232, poll, BASE + 64, 10, 0) == 1
    assert struct.unpack("<IQ", process.memory.read(BASE + 64, 12)) == (1, 77)
    assert process.call(0, event, BASE, 8) == 8 and process.memory.read_u64(BASE) == 3
    assert process.call(232, poll, BASE, 0, 0) == -errno.EINVAL
    process.call(3, event)
    process.call(3, poll)


def test_sockets(process: FakeProcess) -> None:
    assert process.call(53, socket.AF_UNIX, socket.SOCK_DGRAM, 0, BASE) == 0
    left, right = struct.unpack("<ii", process.memory.read(BASE, 8))
    process.memory.write(BASE + 4090, b"0123456789")
    assert process.call(44, left, BASE + 4090, 10, 0, 0, 0) == 10
    assert process.call(45, right, BASE, 100, 0, 0, 0) == 10
    assert process.memory.read(BASE, 10) == b"0123456789"
    process.memory.write_u32(BASE, 4)
    assert process.call(55, left, socket.SOL_SOCKET, socket.SO_TYPE, BASE + 8, BASE) == 0
    assert process.memory.read_u32(BASE + 8) == socket.SOCK_DGRAM
    process.memory.write_u32(BASE, 128)
    assert process.call(51, left, BASE + 8, BASE) == 0 and process.memory.read_u32(BASE) == 2
    for end in (left, right):
        process.call(3, end)


def test_a_connection(process: FakeProcess) -> None:
    server = process.call(41, socket.AF_INET, socket.SOCK_STREAM, 0)
    process.memory.write(BASE, struct.pack("<HH4sQ", socket.AF_INET, 0, b"\x7f\0\0\1", 0))
    assert process.call(49, server, BASE, 16) == 0 and process.call(50, server, 1) == 0
    process.memory.write_u32(BASE + 64, 16)
    assert process.call(51, server, BASE, BASE + 64) == 0
    client = process.call(41, socket.AF_INET, socket.SOCK_STREAM, 0)
    assert process.call(42, client, BASE, 16) == 0
    assert process.call(42, client, BASE, 1 << 20) == -errno.EINVAL
    end = process.call(288, server, BASE, BASE + 64, 0)
    assert end >= 0 and process.memory.read_u32(BASE + 64) == 16
    vector = process.words(BASE + 128, BASE + 512, 3)
    process.memory.write(BASE + 256, struct.pack("<QIIQQQQIi", 0, 0, 0, vector, 1, 0, 0, 0, 0))
    process.memory.write(BASE + 512, b"abc")
    assert process.call(46, client, BASE + 256, 0) == 3
    process.memory.write(BASE + 512, bytes(3))
    assert process.call(47, end, BASE + 256, 0) == 3
    assert process.memory.read(BASE + 512, 3) == b"abc"
    for descriptor in (server, client, end):
        process.call(3, descriptor)
