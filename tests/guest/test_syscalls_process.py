"""What a process sees of itself: /proc, randomness, limits, ids, memory, threads, time and signals."""

import errno
import os
import signal
import struct
import time

import pytest
from syscall_fakes import BASE, HOLE, FakeProcess

from quire.guest.kernel.siginfo import SI_TKILL, SI_USER, SignalInfo
from quire.guest.syscalls import NO_RESULT, RESTART, signalling


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


def slurp(process: FakeProcess, path: str) -> bytes:
    lowest = os.dup(0)
    os.close(lowest)
    fd = process.call(257, -100, process.path(path), 0)
    assert fd == lowest
    size = process.call(0, fd, BASE, 65536)
    process.call(3, fd)
    return process.memory.read(BASE, size)


def test_proc_shows_the_guest(process: FakeProcess) -> None:
    assert slurp(process, "/proc/self/maps") == process.space.maps_text()
    assert slurp(process, f"/proc/{process.tid}/cmdline") == b"env\0-i\0"
    assert slurp(process, "/proc/thread-self/environ") == b"A=1\0"
    assert slurp(process, "/proc/self/comm") == b"env\n"
    assert slurp(process, "/proc/self/stat").startswith(f"{process.tid} (env) ".encode())
    assert slurp(process, "/proc/self/status").startswith(b"Name:\tenv\n")
    assert slurp(process, "/proc/cpuinfo").startswith(b"processor")


def test_the_program_is_its_own_executable(process: FakeProcess) -> None:
    size = process.call(89, process.path("/proc/self/exe"), BASE, 4096)
    assert process.memory.read(BASE, size) == os.path.realpath("/usr/bin/env").encode()
    fd = process.call(2, process.path("/proc/self/exe"), 0)
    assert os.readlink(f"/proc/self/fd/{fd}") == os.path.realpath("/usr/bin/env")
    process.call(3, fd)


@pytest.mark.parametrize("device", ["/dev/urandom", "/dev/random"])
def test_randomness_repeats(device: str) -> None:
    seen = set()
    for _ in range(2):
        process = FakeProcess(seed=7)
        fd = process.call(2, process.path(device), 0)
        copy = process.call(32, fd)
        assert process.call(0, copy, BASE, 5000) == 5000
        assert process.call(318, BASE + 8192, 32, 0) == 32
        seen.add(process.memory.read(BASE, 5000) + process.memory.read(BASE + 8192, 32))
        assert process.call(40, 1, fd, 0, 10) == -errno.EINVAL
        for descriptor in (fd, copy):
            process.call(3, descriptor)
    assert len(seen) == 1
    assert FakeProcess().call(318, HOLE, 10, 0) == -errno.EFAULT
    assert FakeProcess().call(318, BASE, 10, 8) == -errno.EINVAL


def test_limits(process: FakeProcess) -> None:
    process.words(BASE, 1 << 20, 1 << 21)
    assert process.call(302, 0, 3, BASE, BASE + 64) == 0
    assert process.memory.read_u64(BASE + 64) == 8 << 20
    assert process.space.stack_limit == 1 << 20
    assert process.call(97, 3, BASE + 64) == 0
    assert process.memory.read(BASE + 64, 16) == struct.pack("<QQ", 1 << 20, 1 << 21)
    process.words(BASE, 5, 4)
    assert process.call(160, 3, BASE) == -errno.EINVAL
    assert process.call(97, 16, BASE) == -errno.EINVAL


def test_ids_and_machine(process: FakeProcess) -> None:
    assert process.call(39) == process.call(186) == process.tid and process.call(110) == 1
    assert process.call(102) == os.getuid()
    assert process.call(204, 0, 128, BASE) == 8 and process.memory.read_u64(BASE) == 1
    assert process.call(204, 0, 4, BASE) == -errno.EINVAL
    assert process.call(309, BASE, 0, 0) == 0
    assert process.call(63, BASE) == 0
    assert process.memory.read_cstring(BASE) == b"Linux"
    groups = process.call(115, 0, 0)
    assert groups == len(os.getgroups()) and process.call(115, -1, BASE) == -errno.EINVAL
    assert process.call(61, -1, 0, 0, 0) == -errno.ECHILD and process.call(61, -1, 0, 64, 0) == -errno.EINVAL


def test_memory_goes_to_the_space(process: FakeProcess) -> None:
    assert process.call(9, 0, 4096, 3, 0x22, -1, 0) == 0x7000
    assert process.space.calls[-1] == ("mmap", 0, 4096, 3, 0x22, -1, 0)
    assert process.call(9, 0, 4096, 3, 0x02, 0, 1) == -errno.EINVAL
    assert process.call(9, 0, 4096, 3, 0x02, 777, 0) == -errno.EBADF
    assert process.call(12, 0x5000) == 0x7000
    assert process.call(149, BASE, 1) == 0x7000 and process.space.calls[-1] == ("lock", BASE, 1)
    assert process.call(151, 1) == 0


def test_segment_bases(process: FakeProcess) -> None:
    assert process.call(158, 0x1002, 0x7FFF12345678) == 0
    assert process.machine.values["fs_base"] == 0x7FFF12345678
    assert process.call(158, 0x1003, BASE) == 0 and process.memory.read_u64(BASE) == 0x7FFF12345678
    assert process.call(158, 0x1002, 1 << 63) == -errno.EPERM
    assert process.call(158, 0x3001, 0) == -errno.EINVAL


def test_prctl_name(process: FakeProcess) -> None:
    assert process.call(157, 15, process.path("a-rather-long-name-here")) == 0
    assert process.call(157, 16, BASE) == 0
    assert process.memory.read(BASE, 16) == b"a-rather-long-n\0"
    assert process.call(157, 15, HOLE) == -errno.EFAULT
    assert process.call(157, 9999) == -errno.EINVAL


def test_futex(process: FakeProcess) -> None:
    process.memory.write_u32(BASE, 5)
    assert process.call(202, BASE, 128, 6, 0) == -errno.EAGAIN
    assert process.call(202, BASE + 1, 128, 5, 0) == -errno.EINVAL
    assert process.call(202, BASE, 129, 1, 0) == 0
    timeout = process.words(BASE + 64, 0, 20_000_000)
    begin = time.monotonic()
    assert process.call(202, BASE, 128, 5, timeout) == -errno.ETIMEDOUT
    assert time.monotonic() - begin >= 0.02
    process.signals.queue(SignalInfo(signal.SIGTERM, SI_USER))
    assert process.call(202, BASE, 128, 5, 0) is RESTART
    assert process.call(202, HOLE, 128, 5, 0) == -errno.EFAULT


def test_time(process: FakeProcess) -> None:
    before, began = int(time.monotonic()), time.time()
    assert process.call(228, time.CLOCK_MONOTONIC, BASE) == 0
    seconds = process.memory.read_u64(BASE)
    assert before <= seconds <= time.monotonic()
    assert began - 1.1 <= process.call(201, 0) <= time.time()  # of the coarse clock, in whole seconds
    assert process.call(35, process.words(BASE, 0, 1000), 0) == 0
    assert process.call(35, process.words(BASE, 0, 1 << 40), 0) == -errno.EINVAL
    assert process.call(35, HOLE, 0) == -errno.EFAULT


def test_a_host_signal_ends_a_blocked_call(process: FakeProcess) -> None:
    """SIGALRM reaches the guest through Python's handler; what it blocks does not wake it."""
    read, write = os.pipe()
    before = signal.signal(
        signal.SIGALRM, lambda signo, _frame: process.signals.queue(SignalInfo(signo, SI_USER))
    )
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert process.call(0, read, BASE, 1) is RESTART
        process.signals.dequeue(-1)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert process.call(35, process.words(BASE, 10, 0), BASE + 64) == -errno.EINTR
        assert process.memory.read_u64(BASE + 64) < 10
        process.signals.dequeue(-1)
        process.signals.mask = 1 << (signal.SIGALRM - 1)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        begin = time.monotonic()
        assert process.call(35, process.words(BASE, 0, 100_000_000), 0) == 0
        assert time.monotonic() - begin >= 0.1
        assert process.call(130, process.words(BASE, 0), 8) == -errno.EINTR
        assert process.signals.saved_mask == 1 << (signal.SIGALRM - 1)
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(read)
        os.close(write)


def test_dispositions_and_masks(process: FakeProcess) -> None:
    action = struct.pack("<4Q", 0x4000, 0x14000000, 0x5000, 1 << 4)
    process.memory.write(BASE, action)
    assert process.call(13, signal.SIGUSR1, BASE, 0, 8) == 0
    assert process.call(13, signal.SIGUSR1, 0, BASE + 64, 8) == 0
    assert process.memory.read(BASE + 64, 32) == action
    assert process.call(13, signal.SIGKILL, BASE, 0, 8) == -errno.EINVAL
    assert process.call(13, 65, 0, 0, 8) == process.call(13, 1, 0, 0, 4) == -errno.EINVAL
    process.words(BASE, -1)
    assert process.call(14, 0, BASE, BASE + 8, 8) == 0
    assert process.call(14, 9, BASE, 0, 8) == -errno.EINVAL
    assert process.call(14, 0, 0, BASE, 8) == 0
    assert process.memory.read_u64(BASE) == (1 << 64) - 1 & ~(1 << 8) & ~(1 << 18)


def test_signals_to_itself_stay_inside(process: FakeProcess) -> None:
    pid = process.tid
    process.signals.mask = (1 << 64) - 1
    assert process.call(62, pid, signal.SIGUSR2) == 0
    assert process.call(234, pid, pid, signal.SIGTERM) == 0
    assert process.call(62, pid, 0) == 0 and process.call(62, pid, 65) == -errno.EINVAL
    assert process.call(127, BASE, 8) == 0
    assert process.memory.read_u64(BASE) == 1 << (signal.SIGUSR2 - 1) | 1 << (signal.SIGTERM - 1)
    wanted = process.words(BASE, 1 << (signal.SIGTERM - 1))
    assert process.call(128, wanted, BASE + 64, 0, 8) == signal.SIGTERM
    assert struct.unpack("<iii", process.memory.read(BASE + 64, 12)) == (signal.SIGTERM, 0, SI_TKILL)
    assert process.call(128, wanted, 0, process.words(BASE + 64, 0, 1000), 8) == -errno.EAGAIN
    process.memory.write(BASE, struct.pack("<iiiiIIQ", 0, 0, -1, 0, pid, 0, 99).ljust(128, b"\0"))
    assert process.call(129, pid, 40, BASE) == 0
    taken = process.signals.dequeue(1 << 39)
    assert taken is not None and (taken.code, taken.value) == (-1, 99)
    assert process.call(62, 1 << 30, 1) == -errno.ESRCH


def test_signal_stack_and_return(process: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    process.memory.write(BASE, struct.pack("<QiIQ", BASE, 0, 0, 8192))
    assert process.call(131, BASE, BASE + 64) == 0
    assert struct.unpack_from("<Qi", process.memory.read(BASE + 64, 24))[1] == 2
    process.memory.write(BASE, struct.pack("<QiIQ", BASE, 0, 0, 1))
    assert process.call(131, BASE, 0) == -errno.ENOMEM
    monkeypatch.setattr(signalling, "sigreturn", lambda _task: None)
    assert process.call(15) is NO_RESULT
