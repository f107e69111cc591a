"""Terminals and job control: the requests of ioctl that Quire answers itself, and who may read and write from where.

Models tty_ioctl.c, tty_jobctrl.c and job_control of n_tty.c (drivers/tty). A terminal is known by its device, however
it was opened: the host's /dev/tty is the terminal of Quire's session.
"""

import errno
import os
import select
import signal
import stat
import struct
from dataclasses import dataclass

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.kernel.terminal import Terminal
from quire.guest.kernel.waiting import Blocks
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import signed32
from quire.guest.syscalls.state import thread_state
from quire.guest.syscalls.waiting import deadline, is_blocking, ready

__all__ = [
    "CURRENT",
    "MASTER",
    "Modes",
    "Named",
    "acquire",
    "await_key",
    "check_change",
    "get_group",
    "get_session",
    "give_up",
    "may_read",
    "may_write",
    "modes_of",
    "named",
    "refused",
    "set_controlling",
    "set_group",
]

#: /dev/tty, and /dev/ptmx, which masters are opened by.
CURRENT, MASTER = os.makedev(5, 0), os.makedev(5, 2)
_IOCTL, _TCGETS, _TIOCGDEV = 16, 0x5401, 0x80045432
_TERMIOS = struct.Struct("<4IB19s")
_ICANON, _TOSTOP = 0x2, 0x100
_VTIME, _VMIN = 5, 6
_TENTH = 100_000_000
_PROBED = 60


@dataclass(frozen=True, slots=True)
class Modes:
    """What of struct termios Quire looks at: flags of input and of the line, and the control characters."""

    iflag: int
    lflag: int
    cc: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """What a descriptor of a terminal names: `terminal`, None for one that is not the guest's; maybe its master."""

    terminal: Terminal | None
    master: bool


def modes_of(descriptor: int) -> Modes | None:
    """Return the modes of a terminal, of a master those of its slave; None for what is no terminal."""
    found = host.HostBuffer(_PROBED)
    if host.call(_IOCTL, descriptor, _TCGETS, found.address) < 0:
        return None
    iflag, _, _, lflag, _, cc = _TERMIOS.unpack(found.take(_TERMIOS.size))
    return Modes(iflag, lflag, cc)


def named(task: Task, descriptor: int) -> Named | None:
    """Return what a descriptor names, None if that is no terminal."""
    found = host.HostBuffer(4)
    if host.call(_IOCTL, descriptor, _TIOCGDEV, found.address) < 0:
        return None
    device = int.from_bytes(found.take(), "little")
    terminal = task.kernel.terminals.known(device)
    return Named(terminal, os.fstat(descriptor).st_rdev == MASTER)


def _slave(task: Task, status: os.stat_result) -> Terminal | None:
    """Return the caller's terminal if a character device is it, and no master."""
    terminal = task.process.terminal
    if terminal is None or not stat.S_ISCHR(status.st_mode):
        return None
    if status.st_rdev == CURRENT:
        return terminal if terminal.screen is not None else None
    return terminal if status.st_rdev == terminal.device else None


def may_read(task: Task, status: os.stat_result) -> int:
    """Return 0 if a thread may read from a character device, -EIO, or -EINTR and its group has got SIGTTIN."""
    terminal = _slave(task, status)
    if terminal is None:
        return 0
    return task.kernel.terminals.check(task.process, task.signals, terminal, signal.SIGTTIN)


def may_write(task: Task, descriptor: int, status: os.stat_result) -> int:
    """Return 0 if a thread may write to a character device: from the background too, unless its modes say TOSTOP."""
    terminal = _slave(task, status)
    if terminal is None or task.process.group == terminal.foreground:
        return 0
    modes = modes_of(descriptor)
    if modes is None or not modes.lflag & _TOSTOP:
        return 0
    return task.kernel.terminals.check(task.process, task.signals, terminal, signal.SIGTTOU)


def await_key(task: Task, descriptor: int, status: os.stat_result) -> bool:
    """Whether a read from a character device returns nothing now: its modes say so (VMIN 0), or VTIME is over.

    Raises Blocks until then.
    """
    if status.st_rdev == MASTER:
        return False
    modes = modes_of(descriptor)
    if modes is None or modes.lflag & _ICANON or modes.cc[_VMIN]:
        return False
    if ready(descriptor, select.POLLIN) or not is_blocking(descriptor):
        return False
    until = deadline(task, modes.cc[_VTIME] * _TENTH)
    if until is None or task.kernel.clock.now() >= until:
        return True
    raise Blocks(files=((descriptor, select.POLLIN),), until=until)


def check_change(task: Task, descriptor: int, *, by_master: bool = True) -> int:
    """Return 0 if a thread may change a terminal; SIGTTOU stops its group if that is in the background.

    `by_master`: a master stands for its slave.
    """
    if task.process.terminal is None:
        return 0
    found = named(task, descriptor)
    if found is None or found.terminal is None or (found.master and not by_master):
        return 0
    return task.kernel.terminals.check(task.process, task.signals, found.terminal, signal.SIGTTOU)


def _is_own(task: Task, found: Named) -> bool:
    return found.terminal is not None and task.process.terminal is found.terminal


def get_group(task: Task, descriptor: int, pointer: int) -> int:
    """Do TIOCGPGRP: the group in front of the caller's terminal, or of the slave of a master."""
    found = named(task, descriptor)
    if found is None:
        return refused(descriptor)
    if not found.master and not _is_own(task, found):
        return -errno.ENOTTY
    task.memory.write_u32(pointer, 0 if found.terminal is None else found.terminal.foreground)
    return 0


def get_session(task: Task, descriptor: int, pointer: int) -> int:
    """Do TIOCGSID: the session that the caller's terminal controls, or the slave of a master."""
    found = named(task, descriptor)
    if found is None:
        return refused(descriptor)
    terminal = found.terminal
    if terminal is None or not terminal.session or not (found.master or _is_own(task, found)):
        return -errno.ENOTTY
    task.memory.write_u32(pointer, terminal.session)
    return 0


def set_group(task: Task, descriptor: int, pointer: int) -> int:
    """Do TIOCSPGRP: put a group of the caller's session in front of its terminal."""
    found = named(task, descriptor)
    if found is None:
        answer = refused(descriptor)
        return -errno.ENOTTY if answer == -errno.EIO else answer
    result = check_change(task, descriptor)
    if result:
        return -errno.ENOTTY if result == -errno.EIO else result
    group = signed32(task.memory.read_u32(pointer))
    if group < 0:
        return -errno.EINVAL
    terminal, own = found.terminal, task.process
    if terminal is None or own.terminal is not terminal or terminal.session != own.session:
        return -errno.ENOTTY
    sessions = _sessions(task, group)
    if not sessions:
        return -errno.ESRCH
    if own.session not in sessions:
        return -errno.EPERM
    terminal.group = group
    if terminal.screen is not None and not task.options.sandbox and not terminal.screen.in_front():
        terminal.screen.come_to_front()
    return 0


def _sessions(task: Task, number: int) -> list[int]:
    """Return the session of a group, or of the process or thread of that number; nothing if nobody has the number."""
    kernel = task.kernel
    members = kernel.group(number)
    if members:
        return [members[0].session]
    thread = kernel.task(number)
    one = kernel.processes.get(number) if thread is None else thread.process
    if one is not None:
        return [one.session]
    return [0] if any(process.session == number for process in kernel.processes.values()) else []


def set_controlling(task: Task, descriptor: int, argument: int) -> int:
    """Do TIOCSCTTY: have a terminal control the session that the caller leads. 1 takes it from another (user 0).

    EPERM for a terminal of the host that the guest did not make: others may have it.
    """
    found = named(task, descriptor)
    if found is None:
        return refused(descriptor)
    own, terminal = task.process, found.terminal
    leads = own.session == own.pid
    if leads and terminal is not None and terminal.session == own.session:
        return 0
    if not leads or own.terminal is not None or terminal is None:
        return -errno.EPERM
    capable = thread_state(task).credentials.capable
    if terminal.session:
        if argument & LOW32 != 1 or not capable:
            return -errno.EPERM
        task.kernel.terminals.steal(terminal)
    if not _can_read(descriptor) and not capable:
        return -errno.EPERM
    task.kernel.terminals.set(own, terminal)
    return 0


def _can_read(descriptor: int) -> bool:
    flags = host.call(72, descriptor, 3)
    return flags >= 0 and flags & os.O_ACCMODE != os.O_WRONLY


def acquire(task: Task, descriptor: int, flags: int) -> None:
    """A terminal was opened: without O_NOCTTY it controls the session of a leader that has none, if it is free."""
    own = task.process
    if flags & os.O_NOCTTY or own.session != own.pid or own.terminal is not None:
        return
    found = named(task, descriptor)
    if found is None or found.master or found.terminal is None or found.terminal.session:
        return
    if _can_read(descriptor):
        task.kernel.terminals.set(own, found.terminal)


def give_up(task: Task, descriptor: int, argument: int) -> int:
    """Do TIOCNOTTY: have no terminal any more."""
    del argument
    found = named(task, descriptor)
    if found is None:
        return refused(descriptor)
    if found.master or not _is_own(task, found):
        return -errno.ENOTTY
    task.kernel.terminals.give_up(task.process)
    return 0


def refused(descriptor: int) -> int:
    """Return what a request of terminals answers that is not for this descriptor: one that hung up says EIO."""
    answer = host.call(_IOCTL, descriptor, _TIOCGDEV, host.HostBuffer(4).address)
    return answer if answer < 0 else -errno.ENOTTY
