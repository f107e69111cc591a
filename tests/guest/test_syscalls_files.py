"""Files: names, attributes, transfers; compared with what Python's os module says about the same file."""

import errno
import os
import struct
from pathlib import Path

import pytest
from syscall_fakes import BASE, CONST, HOLE, STRINGS, FakeProcess

READ, WRITE, OPEN, CLOSE, STAT, LSEEK = 0, 1, 2, 3, 4, 8
BUFFER = BASE + 4096 - 100  # crosses a page


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    return path


def opened(process: FakeProcess, path: Path | str, flags: int = os.O_RDONLY) -> int:
    fd = process.call(257, -100, process.path(str(path)), flags, 0o644)
    assert fd >= 0
    return fd


def test_read_crosses_pages_and_stops_at_the_end(process: FakeProcess, file: Path) -> None:
    fd = opened(process, file)
    assert process.call(READ, fd, BUFFER, 1 << 40) == 16384
    assert process.memory.read(BUFFER, 16384) == file.read_bytes()
    assert process.call(READ, fd, BUFFER, 10) == 0
    process.call(CLOSE, fd)


def test_a_read_touches_no_more_than_the_file_fills(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 10)
    fd = opened(process, tmp_path / "small")
    process.machine.touched.clear()
    assert process.call(READ, fd, BASE, 32 * 4096) == 10
    assert process.machine.touched == {BASE}
    process.call(CLOSE, fd)


def test_faults_are_partial_transfers(process: FakeProcess, file: Path) -> None:
    fd = opened(process, file)
    assert process.call(READ, fd, HOLE, 10) == -errno.EFAULT
    assert process.call(LSEEK, fd, 0, os.SEEK_CUR) == 0
    assert process.call(READ, fd, HOLE - 7, 100) == 7
    assert process.call(READ, fd, CONST, 1) == -errno.EFAULT
    assert process.call(READ, fd, 1 << 63, 1) == -errno.EFAULT
    process.call(CLOSE, fd)


def test_write_positions_and_refresh(process: FakeProcess, file: Path) -> None:
    fd = opened(process, file, os.O_RDWR)
    process.memory.write(BUFFER, b"q" * 300)
    assert process.call(WRITE, fd, BUFFER, 300) == 300
    assert process.call(18, fd, BUFFER, 200, 1000) == 200
    assert process.call(18, fd, BUFFER, 200, -1) == -errno.EINVAL
    inode = file.stat().st_ino
    each = [("pages", inode, 0, 0), ("pages", inode, 0, 0), ("dropped",)]  # before and behind
    assert process.space.calls == each * 2
    data = file.read_bytes()
    assert data[:300] == b"q" * 300 and data[1000:1200] == b"q" * 200 and data[300] == 300 % 256
    process.call(CLOSE, fd)


def test_vectors(process: FakeProcess, file: Path) -> None:
    fd = opened(process, file, os.O_RDWR)
    vector = process.words(STRINGS + 9000, BASE, 3, BUFFER, 200, 0, 0)
    assert process.call(19, fd, vector, 3) == 203
    assert process.memory.read(BASE, 3) == b"\0\1\2" and process.memory.read(BUFFER, 1) == b"\3"
    assert process.call(20, fd, vector, 2) == 203
    assert process.call(295, fd, vector, 2, 5) == 203
    assert process.memory.read(BASE, 1) == b"\5"
    assert process.call(296, fd, vector, 2, 0) == 203
    assert process.call(327, fd, vector, 2, -1, 0, 0) == 203
    assert process.call(19, fd, vector, 1025) == -errno.EINVAL
    process.words(vector, BASE, -1)
    assert process.call(19, fd, vector, 1) == -errno.EINVAL
    process.call(CLOSE, fd)


def test_a_pipe_write_is_one_write(process: FakeProcess) -> None:
    ends = os.pipe2(os.O_DIRECT)  # packet mode: each write is one read
    process.memory.write(BASE + 90, b"z" * 4090)
    assert process.call(WRITE, ends[1], BASE + 90, 4090) == 4090
    assert os.read(ends[0], 8192) == b"z" * 4090
    for end in ends:
        os.close(end)


def test_zero_device_reads_in_full(process: FakeProcess) -> None:
    fd = opened(process, "/dev/zero")
    assert process.call(READ, fd, BASE, 40 * 4096) == 40 * 4096
    process.call(CLOSE, fd)


@pytest.mark.parametrize(("number", "follow"), [(4, True), (6, False)])
def test_stat(process: FakeProcess, file: Path, number: int, follow: bool) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert process.call(number, process.path(str(link)), BUFFER) == 0
    device, inode, links, mode, uid, gid = struct.unpack("<QQQIII", process.memory.read(BUFFER, 36))
    expected = os.stat(link, follow_symlinks=follow)
    assert (mode, inode, device, links, uid, gid) == tuple(expected)[:6]


def test_names(process: FakeProcess, tmp_path: Path) -> None:
    def both(a: str, b: str) -> tuple[int, int]:
        return process.path(str(tmp_path / a)), process.path(str(tmp_path / b), 1)

    a, b = both("d", "e")
    assert process.call(83, a, 0o755) == 0 and process.call(83, a, 0o755) == -errno.EEXIST
    assert process.call(82, a, b) == 0 and (tmp_path / "e").is_dir()
    assert process.call(84, b) == 0
    a, b = both("f", "g")
    fd = process.call(85, a, 0o600)
    assert fd >= 0 and process.call(CLOSE, fd) == 0
    assert process.call(86, a, b) == 0 and (tmp_path / "g").exists()
    assert process.call(87, b) == 0 and process.call(87, b) == -errno.ENOENT
    assert process.call(88, a, b) == 0 and os.readlink(tmp_path / "g") == str(tmp_path / "f")
    assert process.call(89, b, BUFFER, 4) == 4
    assert process.memory.read(BUFFER, 4) == str(tmp_path).encode()[:4]
    assert process.call(90, a, 0o640) == 0 and (tmp_path / "f").stat().st_mode & 0o777 == 0o640
    assert process.call(76, a, 12) == 0 and (tmp_path / "f").stat().st_size == 12
    times = process.words(BASE, 100, 5, 200, 7)
    assert process.call(280, -100, a, times, 0) == 0
    assert (tmp_path / "f").stat().st_mtime_ns == 200 * 10**9 + 7
    assert process.call(280, -100, a, 0, 0) == 0


def test_path_errors(process: FakeProcess) -> None:
    assert process.call(OPEN, 0, 0) == -errno.EFAULT
    assert process.call(OPEN, HOLE, 0) == -errno.EFAULT
    process.memory.write(BASE, b"x" * 8192)
    assert process.call(OPEN, BASE, 0) == -errno.ENAMETOOLONG
    assert process.call(OPEN, process.path(""), 0) == -errno.ENOENT
    assert process.call(OPEN, process.path(b"\xff\xfe\x01"), 0) == -errno.ENOENT
    assert process.call(4, process.path("/"), HOLE) == -errno.EFAULT


def test_directories(process: FakeProcess, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    fd = opened(process, tmp_path, os.O_DIRECTORY)
    size = process.call(217, fd, BASE, 1 << 30)
    data, names, at = process.memory.read(BASE, size), set(), 0
    while at < size:
        length = int.from_bytes(data[at + 16 : at + 18], "little")
        names.add(data[at + 19 : at + length].split(b"\0")[0])
        at += length
    assert names == {b".", b"..", b"a", b"b", b"c"}
    assert process.call(217, fd, BASE, 4096) == 0
    process.call(CLOSE, fd)


def test_working_directory(process: FakeProcess, tmp_path: Path) -> None:
    before = os.getcwd()
    try:
        assert process.call(80, process.path(str(tmp_path))) == 0
        length = process.call(79, BASE, 4096)
        assert process.memory.read(BASE, length) == str(tmp_path).encode() + b"\0"
        assert process.call(79, BASE, 2) == -errno.ERANGE
    finally:
        os.chdir(before)


def test_extended_attributes(process: FakeProcess, file: Path) -> None:
    path, name = process.path(str(file)), process.path("user.quire", 1)
    process.memory.write(BASE, b"value")
    result = process.call(188, path, name, BASE, 5, 0)
    if result == -errno.EOPNOTSUPP:
        pytest.skip("the file system has no user attributes")
    assert result == 0
    assert process.call(191, path, name, 0, 0) == 5
    assert process.call(191, path, name, BUFFER, 4) == -errno.ERANGE
    assert process.call(191, path, name, BUFFER, 1 << 40) == 5
    assert process.memory.read(BUFFER, 5) == b"value"
    assert process.call(194, path, BUFFER, 100) >= 11
    assert process.call(188, path, name, BASE, 1 << 20, 0) == -errno.E2BIG
    assert process.call(197, path, name) == 0


def test_copies_within_the_kernel(process: FakeProcess, file: Path, tmp_path: Path) -> None:
    source, target = opened(process, file), opened(process, tmp_path / "copy", os.O_CREAT | os.O_WRONLY)
    where = process.words(BASE, 100)
    assert process.call(40, target, source, where, 50) == 50
    assert process.memory.read_u64(BASE) == 150
    result = process.call(326, source, 0, target, 0, 1000, 0)
    assert result in (1000, -errno.EXDEV, -errno.EOPNOTSUPP, -errno.ENOSYS)
    assert (tmp_path / "copy").read_bytes()[:50] == file.read_bytes()[100:150]
    process.call(CLOSE, source)
    process.call(CLOSE, target)


def test_openat2(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    how = process.words(BASE, 0, 0, 0x08)  # RESOLVE_BENEATH
    assert process.call(437, -100, process.path("/etc/passwd"), how, 24) == -errno.EXDEV
    assert process.call(437, -100, process.path("/"), how, 8) == -errno.EINVAL
    process.words(BASE, 0, 0, 0, 1)
    assert process.call(437, -100, process.path("/"), how, 32) == -errno.E2BIG


def test_a_shared_file_is_written_before_it_is_looked_at(process: FakeProcess, file: Path) -> None:
    fd = opened(process, file, os.O_RDWR)
    whole = (0, ((1 << 64) - 2) // 4096)
    for number, arguments, touched in ((74, (), whole), (77, (10,), (0, 0)), (17, (BASE, 3, 2), (0, 0))):
        process.space.calls.clear()
        assert process.call(number, fd, *arguments) >= 0
        assert process.space.calls[0] == ("pages", file.stat().st_ino, *touched)
    process.call(CLOSE, fd)
