"""Timers and signals by descriptors, call by call."""

import errno
import os
import select
import struct

import pytest
from syscall_fakes import BASE, HOLE, FakeProcess

from quire.guest.kernel.siginfo import SI_KERNEL, SI_QUEUE, SI_TIMER, SignalInfo
from quire.guest.kernel.signal_file import packed

CREATE, SETTIME, GETTIME, SIGNALFD, POLL, DUP = 283, 286, 287, 289, 7, 32
MONOTONIC, NONBLOCK, ABSOLUTE = 1, os.O_NONBLOCK, 1
AGAIN = -errno.EAGAIN


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def set_timer(process: FakeProcess, timer: int, first: int, interval: int, flags: int = 0) -> int:
    process.words(BASE, *divmod(interval, 10**9), *divmod(first, 10**9))
    return process.call(SETTIME, timer, flags, BASE, 0)


def read_count(process: FakeProcess, timer: int) -> int:
    result = process.call(0, timer, BASE + 64, 8)
    return result if result < 0 else process.memory.read_u64(BASE + 64)


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_timer_counts_what_has_expired_and_nobody_has_read(process: FakeProcess) -> None:
    timer = process.call(CREATE, MONOTONIC, NONBLOCK)
    copy = process.call(DUP, timer)
    assert read_count(process, timer) == AGAIN and not readable(timer)
    now = process.kernel.clock.now()
    assert set_timer(process, timer, now - 10_500, 1000, ABSOLUTE) == 0
    assert readable(timer) and readable(copy)
    assert read_count(process, copy) >= 11
    assert set_timer(process, timer, 10**18, 0) == 0
    assert not readable(timer) and read_count(process, timer) == AGAIN
    assert process.call(GETTIME, timer, BASE) == 0
    interval, _, seconds, _ = struct.unpack("<4q", process.memory.read(BASE, 32))
    assert interval == 0 and 10**9 - 10 < seconds <= 10**9
    assert set_timer(process, timer, 1, 0) == 0
    process.kernel.collect()
    assert readable(copy) and read_count(process, copy) == 1 and read_count(process, timer) == AGAIN
    os.close(timer)
    os.close(copy)


def test_what_a_timer_refuses(process: FakeProcess) -> None:
    assert process.call(CREATE, 2, 0) == process.call(CREATE, MONOTONIC, 1) == -errno.EINVAL
    timer = process.call(CREATE, MONOTONIC, 0)
    assert set_timer(process, timer, 1, 0, 4) == -errno.EINVAL
    assert set_timer(process, 0, 1, 0) == -errno.EINVAL
    assert process.call(SETTIME, timer, 0, HOLE, 0) == -errno.EFAULT
    for words in ((0, 0, -1, 0), (0, 10**9, 1, 0), (-1, 0, 1, 0), (0, 0, 0, -1)):
        process.words(BASE, *words)
        assert process.call(SETTIME, timer, 0, BASE, 0) == -errno.EINVAL
    assert process.call(0, timer, BASE, 7) == -errno.EINVAL
    assert process.call(1, timer, BASE, 8) == -errno.EINVAL
    assert process.call(17, timer, BASE, 8, 0) == -errno.ESPIPE
    reader, writer = os.pipe()
    assert (
        process.call(275, timer, 0, writer, 0, 8, 0)
        == process.call(276, timer, writer, 8, 0)
        == -errno.EINVAL
    )
    os.close(reader)
    os.close(writer)
    os.close(timer)
    assert process.call(GETTIME, timer, BASE) == -errno.EBADF


def test_closed_timers_leave_nothing(process: FakeProcess) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(300):
        timer = process.call(CREATE, MONOTONIC, 0)
        set_timer(process, timer, 1, 1)
        os.close(timer)
    process.kernel.collect()
    assert process.kernel.next_timer(None) is None
    last = process.call(CREATE, MONOTONIC, 0)
    os.close(last)
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1


def test_no_descriptor_beyond_the_limit(process: FakeProcess) -> None:
    process.words(BASE, 3, 4096)
    assert process.call(160, 7, BASE) == 0
    assert process.call(CREATE, MONOTONIC, 0) == -errno.EMFILE
    process.words(BASE, 0)
    assert process.call(SIGNALFD, -1, BASE, 8, 0) == -errno.EMFILE


def test_signals_are_read_by_number_and_only_those_of_the_set(process: FakeProcess) -> None:
    process.signals.mask = -1
    process.words(BASE, 1 << 9 | 1 << 11)
    descriptor = process.call(SIGNALFD, -1, BASE, 8, NONBLOCK)
    assert process.call(0, descriptor, BASE, 256) == AGAIN and process.awaits == 0
    for signo in (12, 15, 10):
        process.kernel.send(process.process, SignalInfo(signo, 0, pid=7, uid=8))
    assert readable(descriptor)
    assert process.call(0, descriptor, BASE, 127) == -errno.EINVAL
    assert process.call(0, descriptor, BASE, 400) == 256
    assert [process.memory.read_u32(BASE + at) for at in (0, 12, 16, 128)] == [10, 7, 8, 12]
    assert process.signals.pending == 1 << 14 and not readable(descriptor)
    process.words(BASE, 1 << 14)
    assert process.call(SIGNALFD, descriptor, BASE, 8, 0) == descriptor
    process.memory.write(BASE, struct.pack("<ihh", descriptor, 1, 0))
    assert process.call(POLL, BASE, 1, 0) == 1
    os.close(descriptor)


def test_what_signalfd_refuses(process: FakeProcess) -> None:
    process.words(BASE, 0)
    assert process.call(SIGNALFD, -1, BASE, 4, 0) == -errno.EINVAL
    assert process.call(SIGNALFD, -1, BASE, 8, 1) == -errno.EINVAL
    assert process.call(SIGNALFD, -1, HOLE, 8, 0) == -errno.EFAULT
    assert process.call(SIGNALFD, 0, BASE, 8, 0) == -errno.EINVAL
    assert process.call(SIGNALFD, 12345, BASE, 8, 0) == -errno.EBADF


def test_which_members_a_signal_fills() -> None:
    info = packed(SignalInfo(34, SI_QUEUE, pid=1, uid=2, value=(1 << 64) - 5))
    assert len(info) == 128
    assert struct.unpack_from("<IiiII", info) == (34, 0, SI_QUEUE, 1, 2)
    assert struct.unpack_from("<iQ", info, 44) == (-5, (1 << 64) - 5)
    timer = packed(SignalInfo(14, SI_TIMER, pid=3, uid=9, value=4))
    assert struct.unpack_from("<IIiIII", timer, 12) == (0, 0, 0, 3, 0, 9)
    child = packed(SignalInfo(17, 1, pid=5, status=6))
    assert struct.unpack_from("<I", child, 12) == (5,) and struct.unpack_from("<i", child, 40) == (6,)
    fault = packed(SignalInfo(11, 1, addr=0x1234, pid=77))
    assert struct.unpack_from("<Q", fault, 72) == (0x1234,) and struct.unpack_from("<I", fault, 12) == (0,)
    plain = packed(SignalInfo(14, SI_KERNEL))
    assert plain[12:] == bytes(116)
