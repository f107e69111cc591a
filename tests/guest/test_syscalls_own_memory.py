"""Calls that name a process: only the guest's own is there to be named."""

import errno
import os
import struct

import pytest
from syscall_fakes import BASE, HOLE, FakeProcess

READ, WRITE, PIDFD_OPEN = 310, 311, 434


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def _ranges(process: FakeProcess, where: int, *pairs: tuple[int, int]) -> int:
    process.memory.write(where, b"".join(struct.pack("<QQ", *pair) for pair in pairs))
    return where


def _copy(process: FakeProcess, number: int, here: tuple[int, int], there: tuple[int, int]) -> int:
    local, remote = _ranges(process, BASE + 0x8000, here), _ranges(process, BASE + 0x8100, there)
    return process.call(number, process.tid, local, 1, remote, 1, 0)


def test_memory_is_copied_both_ways(process: FakeProcess) -> None:
    process.memory.write(BASE, b"from here")
    assert _copy(process, READ, (BASE + 100, 9), (BASE, 9)) == 9
    assert process.memory.read(BASE + 100, 9) == b"from here"
    assert _copy(process, WRITE, (BASE, 4), (BASE + 200, 9)) == 4
    assert process.memory.read(BASE + 200, 5) == b"from\0"


def test_what_cannot_be_reached_ends_the_copy(process: FakeProcess) -> None:
    assert _copy(process, READ, (BASE, 8192), (HOLE - 4096, 8192)) == 4096
    assert _copy(process, READ, (BASE, 8), (HOLE, 8)) == -errno.EFAULT


def test_other_processes_are_not_the_guests(process: FakeProcess) -> None:
    parent = os.getppid()
    where = _ranges(process, BASE, (BASE, 8))
    assert process.call(READ, parent, where, 1, where, 1, 0) == -errno.ESRCH
    assert process.call(WRITE, parent, where, 1, where, 1, 0) == -errno.ESRCH
    assert process.call(PIDFD_OPEN, parent, 0) == -errno.ESRCH
    assert process.call(PIDFD_OPEN, 0x3FFFFFF, 0) == -errno.ESRCH


def test_a_sandboxed_guest_may_name_itself() -> None:
    process = FakeProcess(sandbox=True)
    assert _copy(process, READ, (BASE + 100, 9), (BASE, 9)) == 9
    assert process.call(PIDFD_OPEN, os.getppid(), 0) == -errno.ESRCH
