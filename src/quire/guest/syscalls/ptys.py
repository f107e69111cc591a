"""Pseudoterminals that guests make: the signals that the host's line discipline would send, had it somebody to send to.

The bytes go through a real pty of the host, which echoes, edits and flushes. It controls no session of the host:
nothing is opened without O_NOCTTY, so no thread of Quire ever gets a signal of it. Quire itself looks at what is
written to a master, and sends SIGINT, SIGQUIT and SIGTSTP for the characters that the modes name
(n_tty_receive_char_special). Packet mode would tell only that something was flushed, not why, and is the guest's own
to use, as tmux does; under EXTPROC the host would neither echo nor edit. What the line discipline does with the same
byte it still does.

A signal is sent when the line discipline has the byte: else the flush that goes with it could take what its receiver
writes. What other programs of the host write to a master that a guest gave them sends no signals.
"""

import errno
import os
import select
import signal
import stat
import time

from quire.guest.kernel.task import Task
from quire.guest.kernel.terminal import Terminal
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.state import admit
from quire.guest.syscalls.terminals import CURRENT, MASTER, Modes, acquire, modes_of, named, refused

__all__ = ["follow_open", "keys_of", "open_current", "open_peer", "resize", "send_signal", "typed"]

_IOCTL, _OPENAT, _AT_FDCWD = 16, 257, -100
_TIOCGWINSZ, _TIOCSWINSZ, _TIOCGPTPEER, _TIOCGDEV = 0x5413, 0x5414, 0x5441, 0x80045432
_WINDOW = 8
_ISTRIP, _IUCLC = 0o40, 0o1000
_ISIG, _ICANON, _IEXTEN, _EXTPROC = 0o1, 0o2, 0o100000, 0o200000
_VLNEXT = 15
#: The index of a control character, and its signal.
_KEYS = ((0, signal.SIGINT), (1, signal.SIGQUIT), (10, signal.SIGTSTP))
#: What of the flags says how /dev/tty is used once it is open.
_USE = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
#: How long the line discipline may take over a byte behind input that nobody has read (seconds).
_SETTLES = 0.001


def keys_of(terminal: Terminal, modes: Modes, data: bytes) -> list[int]:
    """Return the signals of what was typed, in order; the terminal remembers a VLNEXT at the end."""
    if modes.lflag & _EXTPROC:
        terminal.literal = False
        return []
    if modes.iflag & _ISTRIP:
        data = bytes(byte & 0x7F for byte in data)
    if modes.iflag & _IUCLC and modes.lflag & _IEXTEN:
        data = data.lower()
    keys = {modes.cc[index]: int(signo) for index, signo in reversed(_KEYS)} if modes.lflag & _ISIG else {}
    literal = modes.lflag & _ICANON and modes.lflag & _IEXTEN and modes.cc[_VLNEXT]
    keys.pop(0, None)  # which disables a character
    if not terminal.literal and not any(byte in data for byte in (*keys, *((literal,) if literal else ()))):
        return []
    found = []
    for byte in data:
        if terminal.literal:
            terminal.literal = False
        elif byte in keys:
            found.append(keys[byte])
        elif literal and byte == literal:
            terminal.literal = True
    return found


def typed(task: Task, descriptor: int, data: bytes) -> None:
    """Something was written to a master: what is in front of its slave gets the signals of the special characters."""
    found = named(task, descriptor)
    if found is None or found.terminal is None or not found.master:
        return
    modes = modes_of(descriptor)
    if modes is None:
        return
    signals = keys_of(found.terminal, modes, data)
    if signals and found.terminal.group:
        _settle(descriptor)
        for signo in signals:
            task.kernel.terminals.send(found.terminal.group, signo)


def _settle(descriptor: int) -> None:
    """Wait until the line discipline has what was written to a master: to poll its slave does that (n_tty_poll).

    A slave that nobody has open is left alone, since the last who closes it hangs up its master.
    """
    poll = select.poll()
    poll.register(descriptor, 0)
    if poll.poll(0):
        return
    slave = host.call(_IOCTL, descriptor, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if slave < 0:
        return
    try:
        poll = select.poll()
        poll.register(slave, select.POLLIN)
        if poll.poll(0):
            time.sleep(_SETTLES)  # behind other input it does not wait
    finally:
        os.close(slave)


def send_signal(task: Task, descriptor: int, signo: int) -> int:
    """Do TIOCSIG: send a signal to what is in front of a master's slave."""
    found = named(task, descriptor)
    if found is None or not found.master:
        return refused(descriptor)
    signo = signed32(signo)
    if signo not in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        return -errno.EINVAL
    if found.terminal is not None:
        task.kernel.terminals.send(found.terminal.group, signo)
    return 0


def resize(task: Task, descriptor: int, pointer: int) -> int:
    """Do TIOCSWINSZ: what is in front of a pty of the guest's gets SIGWINCH if the size is another."""
    before = host.HostBuffer(_WINDOW)
    host.call(_IOCTL, descriptor, _TIOCGWINSZ, before.address)
    window = host.HostBuffer(_WINDOW, task.memory.read(pointer, _WINDOW))
    result = host.call(_IOCTL, descriptor, _TIOCSWINSZ, window.address)
    if result < 0 or before.take() == window.take():
        return result
    found = named(task, descriptor)
    if found is not None and found.terminal is not None and found.terminal.screen is None:
        task.kernel.terminals.send(found.terminal.group, signal.SIGWINCH)
    return result


def open_peer(task: Task, descriptor: int, flags: int) -> int:
    """Do TIOCGPTPEER: open the slave of a master."""
    opened = host.call(_IOCTL, descriptor, _TIOCGPTPEER, flags | os.O_NOCTTY)
    if opened < 0:
        return opened
    opened = admit(task, opened)
    if opened >= 0:
        acquire(task, opened, flags)
    return opened


def follow_open(task: Task, opened: int, flags: int) -> None:
    """A file was opened: note a new master, and what its terminal controls from now on."""
    status = os.fstat(opened)
    if not stat.S_ISCHR(status.st_mode) or flags & os.O_PATH:
        return
    if status.st_rdev == MASTER:
        found = host.HostBuffer(4)
        if host.call(_IOCTL, opened, _TIOCGDEV, found.address) >= 0:
            task.kernel.terminals.make(int.from_bytes(found.take(), "little"))
    elif status.st_rdev != CURRENT:
        acquire(task, opened, flags)


def open_current(task: Task, opened: int, names: bool, flags: int) -> int:
    """Return the descriptor of what /dev/tty is for the caller, in place of what the host opened or -ENXIO.

    `names` says whether a name that answered ENXIO is one of /dev/tty. Other results are returned as they are.
    """
    if opened >= 0:
        status = os.fstat(opened)
        names = stat.S_ISCHR(status.st_mode) and status.st_rdev == CURRENT
    if not names or flags & os.O_PATH:
        return opened
    terminal = task.process.terminal
    if terminal is not None and terminal.screen is not None:
        return opened
    if opened >= 0:
        os.close(opened)
    if terminal is None:
        return -errno.ENXIO
    path = os.fsencode(terminal.path)
    name = host.HostBuffer(len(path), path)
    return host.call(_OPENAT, _AT_FDCWD, name.address, flags & _USE | os.O_NOCTTY)
