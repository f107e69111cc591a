"""Pseudoterminals that a guest makes, by the fakes: what they control, which bytes are keys, and how they end."""

import errno
import fcntl
import os
import select
import signal
import stat
import struct
from pathlib import Path

import pytest
from syscall_fakes import BASE, FakeProcess

from quire.guest.kernel.system import FIRST_PID
from quire.guest.kernel.terminal import Terminal
from quire.guest.syscalls.ptys import keys_of
from quire.guest.syscalls.terminals import Modes

_WRITE, _OPEN, _CLOSE, _IOCTL = 1, 2, 3, 16
_GPGRP, _SWINSZ, _GSID, _SIG = 0x540F, 0x5414, 0x5429, 0x40045436


def _made() -> tuple[FakeProcess, int, int]:
    """Return a process that opened a master, and then its slave, which controls its session now."""
    task = FakeProcess()
    master = task.call(_OPEN, task.path("/dev/ptmx"), os.O_RDWR)
    fcntl.ioctl(master, 0x40045431, struct.pack("<i", 0))  # TIOCSPTLCK
    (number,) = struct.unpack("<i", fcntl.ioctl(master, 0x80045430, bytes(4)))  # TIOCGPTN
    slave = task.call(_OPEN, task.path(f"/dev/pts/{number}"), os.O_RDWR)
    return task, master, slave


def test_a_pty_controls_the_session_of_who_opens_it() -> None:
    task, master, slave = _made()
    assert task.process.terminal is not None and task.process.terminal.session == FIRST_PID
    assert task.call(_IOCTL, master, _GSID, BASE) == 0 and task.memory.read_u32(BASE) == FIRST_PID
    current = task.call(_OPEN, task.path("/dev/tty"), os.O_RDWR)
    assert os.fstat(current).st_rdev == task.process.terminal.device
    assert stat.S_ISCHR(os.fstat(current).st_mode)
    for descriptor in (master, slave, current):
        os.close(descriptor)


def test_a_pty_controls_no_session_of_the_host() -> None:
    """Not even that of a process which leads one and has no terminal."""
    child = os.fork()
    if child == 0:
        status = 9
        try:
            os.setsid()
            task, *_ = _made()
            fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
            status = int(fields[4] != b"0" or task.process.terminal is None)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_keys_written_to_a_master_and_its_size_are_signals() -> None:
    task, master, slave = _made()
    signals = task.signals
    signals.mask = (1 << 64) - 1
    for data, wanted in (
        (b"\x03", [signal.SIGINT]),
        (b"a\x1a", [signal.SIGTSTP]),
        (b"\x16\x1c", []),
        (b"ab", []),
    ):
        task.memory.write(BASE, data)
        assert task.call(_WRITE, master, BASE, len(data)) == len(data)
        found = []
        while (info := signals.dequeue(signals.pending)) is not None:
            found.append(info.signo)
        assert found == wanted, data
    task.memory.write(BASE, struct.pack("<4H", 30, 90, 0, 0))
    assert task.call(_IOCTL, slave, _SWINSZ, BASE) == 0 == task.call(_IOCTL, slave, _SWINSZ, BASE)
    assert [info.signo for info in signals.shared] == [signal.SIGWINCH]
    assert task.call(_IOCTL, master, _SIG, signal.SIGQUIT) == 0
    assert task.call(_IOCTL, master, _SIG, 64) == -errno.EINVAL
    assert task.call(_IOCTL, slave, _SIG, signal.SIGQUIT) == -errno.ENOTTY
    assert signals.pending == 1 << signal.SIGWINCH - 1 | 1 << signal.SIGQUIT - 1
    os.close(slave)
    os.close(master)


def test_the_line_discipline_has_a_key_when_its_signal_comes() -> None:
    """Its echo is there at once: what it flushes can be nothing that the signal's receiver writes."""
    task, master, slave = _made()
    task.signals.mask = (1 << 64) - 1
    poll = select.poll()
    poll.register(master, select.POLLIN)
    for _ in range(300):
        task.memory.write(BASE, b"\x03")
        assert task.call(_WRITE, master, BASE, 1) == 1
        assert poll.poll(0) and os.read(master, 10) == b"^C"
    os.close(slave)
    os.close(master)


def test_the_last_close_of_a_master_hangs_its_slave_up() -> None:
    task, master, slave = _made()
    task.signals.mask = (1 << 64) - 1
    copy = os.dup(master)
    assert task.call(_CLOSE, master) == 0 and not task.signals.pending
    assert task.call(_CLOSE, copy) == 0
    assert task.signals.pending == 1 << signal.SIGHUP - 1 | 1 << signal.SIGCONT - 1
    assert task.process.terminal is None and task.kernel.terminals.numbers == frozenset()
    assert task.call(_IOCTL, slave, _GPGRP, BASE) == -errno.EIO
    os.close(slave)


_INT, _QUIT, _TSTP = (int(signo) for signo in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP))
_CC = bytes([3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0])
_USUAL = 0o1 | 0o2 | 0o100000  # ISIG, ICANON, IEXTEN


@pytest.mark.parametrize(
    ("iflag", "lflag", "data", "wanted", "literal"),
    [
        (0, _USUAL, b"a\x03b\x1c\x1a", [_INT, _QUIT, _TSTP], False),
        (0, _USUAL & ~0o1, b"\x03", [], False),
        (0, _USUAL & ~0o1, b"\x16", [], True),
        (0, _USUAL, b"\x16\x03\x03", [_INT], False),
        (0, _USUAL, b"\x16\x16\x03", [_INT], False),
        (0, _USUAL & ~0o2, b"\x16\x03", [_INT], False),
        (0, _USUAL & ~0o100000, b"\x16\x03", [_INT], False),
        (0, _USUAL | 0o200000, b"\x03\x16", [], False),
        (0, _USUAL, b"\x83", [], False),
        (0o40, _USUAL, b"\x83", [_INT], False),
        (0, _USUAL, b"\x00", [], False),
    ],
)
def test_which_bytes_are_keys(iflag: int, lflag: int, data: bytes, wanted: list[int], literal: bool) -> None:
    terminal = Terminal(1)
    assert keys_of(terminal, Modes(iflag, lflag, _CC), data) == wanted
    assert terminal.literal is literal
    if literal:
        assert keys_of(terminal, Modes(iflag, lflag | 0o1, _CC), b"\x03\x03") == [_INT]


def test_keys_in_capitals_are_those_in_small_letters_where_the_modes_say_so() -> None:
    cc = b"i" + _CC[1:]
    assert keys_of(Terminal(1), Modes(0o1000, _USUAL, cc), b"I") == [_INT]
    assert keys_of(Terminal(1), Modes(0o1000, _USUAL & ~0o100000, cc), b"I") == []
