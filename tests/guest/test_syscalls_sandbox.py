"""`--sandbox`: nothing outside standard output, standard error and the guest's own channels is changed."""

import errno
import os
import socket
import struct
from pathlib import Path

import pytest
from syscall_fakes import BASE, FakeProcess

from quire.guest.syscalls import SYSCALLS
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.sandbox import verdict

REFUSED = (-errno.EACCES, -errno.EPERM)


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess(sandbox=True)


def test_a_call_that_nobody_looked_at_is_refused(process: FakeProcess) -> None:
    assert {
        entry.name for entry in SYSCALLS.values() if entry.run and entry.effect is Effect.UNKNOWN
    } == set()
    assert verdict(process, Effect.UNKNOWN, (0, 0, 0)) == -errno.EPERM  # type: ignore[arg-type]


def test_files_cannot_be_changed(process: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"data")
    path, other = process.path(str(tmp_path / "f")), process.path(str(tmp_path / "g"), 1)
    for flags in (
        os.O_WRONLY,
        os.O_RDWR,
        os.O_CREAT,
        os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
        3,
        0o20200000 | os.O_RDWR,
    ):
        assert process.call(2, path, flags, 0o600) in REFUSED
        assert process.call(257, -100, other, flags | os.O_CREAT, 0o600) in REFUSED
        assert process.call(437, -100, path, process.words(BASE, flags, 0, 0), 24) in REFUSED
    for number, arguments in (
        (85, (path, 0)),
        (83, (other, 0o777)),
        (87, (path,)),
        (82, (path, other)),
        (86, (path, other)),
        (88, (path, other)),
        (90, (path, 0)),
        (92, (path, 0, 0)),
        (76, (path, 0)),
        (280, (-100, path, 0, 0)),
        (133, (other, 0o100644, 0)),
        (41, (socket.AF_INET, socket.SOCK_STREAM, 0)),
        (141, (1, 0, 5)),
        (141, (0, os.getppid(), 5)),
    ):
        assert process.call(number, *arguments) in REFUSED, SYSCALLS[number].name
    assert os.listdir(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"data"
    fd = process.call(2, path, 0)
    assert process.call(0, fd, BASE, 10) == 4
    process.call(3, fd)


def test_a_file_opened_in_the_place_of_standard_output_is_no_output(
    process: FakeProcess, tmp_path: Path
) -> None:
    """Though the very first calls of a guest put it there."""
    (tmp_path / "f").write_bytes(b"data")
    path, output = process.path(str(tmp_path / "f")), os.dup(1)
    try:
        process.call(3, 1)
        assert process.call(2, path, os.O_RDONLY) == 1
        assert process.call(2, path, os.O_WRONLY) == -errno.EACCES
        assert process.call(1, 1, BASE, 1) == -errno.EACCES
    finally:
        os.dup2(output, 1)
        os.close(output)


def test_inherited_descriptors_cannot_be_written(process: FakeProcess, tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb+", buffering=0) as file:
        fd = file.fileno()
        for number, arguments in ((1, (BASE, 1)), (18, (BASE, 1, 0)), (77, (0,)), (285, (0, 0, 10))):
            assert process.call(number, fd, *arguments) == -errno.EACCES
        assert process.call(9, 0, 4096, 3, 1, fd, 0) == -errno.EACCES
        assert process.call(9, 0, 4096, 3, 2, fd, 0) == 0x7000
        copy = process.call(33, fd, 200)
        assert process.call(1, copy, BASE, 1) == -errno.EACCES
        process.call(3, copy)
        assert file.seek(0, 2) == 0


def test_its_own_channels_can(process: FakeProcess) -> None:
    assert process.call(22, BASE) == 0
    read, write = struct.unpack("<ii", process.memory.read(BASE, 8))
    copy = process.call(32, write)
    assert process.call(1, copy, BASE, 8) == 8
    memory = process.call(319, process.path("m"), 0)
    assert process.call(1, memory, BASE, 8) == 8 and process.call(77, memory, 4096) == 0
    null = process.call(2, process.path("/dev/null"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    assert process.call(1, null, BASE, 8) == 8
    again = process.call(2, process.path(f"/proc/self/fd/{write}"), os.O_WRONLY, 0)
    assert process.call(1, again, BASE, 8) == 8 and process.call(3, again) == 0
    assert process.call(1, 2, BASE, 0) == 0
    for fd in (read, write, copy, memory, null):
        assert process.call(3, fd) == 0


def test_devnull_gets_the_lowest_number(process: FakeProcess) -> None:
    lowest = os.dup(0)
    os.close(lowest)
    fd = process.call(2, process.path("/dev/null"), os.O_RDWR | os.O_CLOEXEC)
    assert fd == lowest and not os.get_inheritable(fd)
    process.call(3, fd)
