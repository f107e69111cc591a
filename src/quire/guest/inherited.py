"""What Quire has in common with whoever started it, and a guest could change for them: put back when the guest ends.

That is the state of open files, which all share who have them open (whether they block, who is told when they are
ready), the modes of terminals, and what Quire's own process goes on with: its descriptors, its working directory,
whether others may look into it. Use as a context manager around the guest's run.
"""

import fcntl
import os
import signal
import struct
import termios
from dataclasses import dataclass
from typing import Any, Self

from quire.guest.host_terminal import is_somebody_elses
from quire.guest.kernel.task import ThreadGroup
from quire.guest.syscalls import host
from quire.guest.syscalls.state import group_state
from quire.own_descriptors import FIRST_OWN, move_high

__all__ = ["Inherited", "separate"]

_FIRST_UNSHARED = 3
_CLOSE = 3
_GETOWN_EX, _SETOWN_EX = 16, 15
_PRCTL, _GET_DUMPABLE, _SET_DUMPABLE = 157, 3, 4
_OWNER = struct.Struct("<ii")


def _open_descriptors() -> list[int]:
    """Return the descriptors that a guest inherits."""
    listed = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return [number for number in listed if number < FIRST_OWN and host.identity_of(number) is not None]


@dataclass(slots=True)
class _OpenFile:
    """The open file of descriptor `number` as it was; `descriptor` is Quire's own copy, which no guest can close."""

    number: int
    inheritable: bool
    descriptor: int
    flags: int
    owner: bytes
    signo: int
    modes: list[Any] | None
    window: bytes | None

    @classmethod
    def of(cls, descriptor: int) -> "_OpenFile":
        own = move_high(descriptor, close=False)
        terminal = os.isatty(own)
        return cls(
            descriptor,
            os.get_inheritable(descriptor),
            own,
            fcntl.fcntl(own, fcntl.F_GETFL),
            fcntl.fcntl(own, _GETOWN_EX, bytes(_OWNER.size)),
            fcntl.fcntl(own, fcntl.F_GETSIG),
            termios.tcgetattr(own) if terminal else None,
            fcntl.ioctl(own, termios.TIOCGWINSZ, bytes(8)) if terminal else None,
        )

    def put_back(self, replaced: bool) -> None:
        """Undo what the guest did to the file, and to its number: it may have closed it, or put another there."""
        own = self.descriptor
        if replaced or host.identity_of(self.number) is None:
            os.dup2(own, self.number)
        os.set_inheritable(self.number, self.inheritable)
        try:
            if fcntl.fcntl(own, fcntl.F_GETFL) != self.flags:
                fcntl.fcntl(own, fcntl.F_SETFL, self.flags)
            if fcntl.fcntl(own, fcntl.F_GETSIG) != self.signo:
                fcntl.fcntl(own, fcntl.F_SETSIG, self.signo)
            if fcntl.fcntl(own, _GETOWN_EX, bytes(_OWNER.size)) != self.owner:
                fcntl.fcntl(own, _SETOWN_EX, self.owner)
            if self.modes is not None and self.window is not None and not is_somebody_elses(own):
                if termios.tcgetattr(own) != self.modes:
                    termios.tcsetattr(own, termios.TCSANOW, self.modes)
                if fcntl.ioctl(own, termios.TIOCGWINSZ, bytes(8)) != self.window:
                    fcntl.ioctl(own, termios.TIOCSWINSZ, self.window)
        except (OSError, termios.error):
            pass  # its other end is gone: nobody sees what it was left like
        os.close(own)


class Inherited:
    """Notes at the enter what `group` inherits, and puts it back at the exit; what it opened since is closed."""

    def __init__(self, group: ThreadGroup) -> None:
        self._group = group

    def __enter__(self) -> Self:
        self._dumpable = host.call(_PRCTL, _GET_DUMPABLE)
        self._directory = move_high(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        self._files = [_OpenFile.of(descriptor) for descriptor in _open_descriptors()]
        return self

    def __exit__(self, *_: object) -> None:
        # The terminal stops a background process that sets its modes, unless it blocks this.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        opened = group_state(self._group).opened
        for number in opened - {file.number for file in self._files}:
            host.call(_CLOSE, number)
        for file in self._files:
            file.put_back(file.number in opened)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.fchdir(self._directory)
        os.close(self._directory)
        if host.call(_PRCTL, _GET_DUMPABLE) != self._dumpable:
            host.call(_PRCTL, _SET_DUMPABLE, self._dumpable)  # ids that change forbid it


def separate(group: ThreadGroup, *, anew: bool) -> None:
    """Keep a sandboxed guest from changing, for others, what it inherits above descriptor 2.

    With `anew`, in a process of Quire's own, it gets files opened anew, to read. Of what others use as well, such as
    pipes and sockets, it may neither read nor change anything; event channels are closed, since nothing tells them from
    its own.
    """
    state = group_state(group)
    standard = {host.identity_of(descriptor) for descriptor in range(_FIRST_UNSHARED)}
    for descriptor in _open_descriptors():
        if descriptor < _FIRST_UNSHARED or (anew and _is_apart(descriptor)):
            continue
        identity = host.identity_of(descriptor)
        if identity is not None and identity not in standard:
            state.inherited.add(identity)


def _is_apart(descriptor: int) -> bool:
    """Close an event channel, open a file anew; False when neither can be."""
    if host.is_nameless(descriptor):
        os.close(descriptor)
        return True
    return host.is_unshared(descriptor) and _opened_anew(descriptor)


def _opened_anew(descriptor: int) -> bool:
    """Put a new open file of the same file in the place of what `descriptor` names; False when that cannot be."""
    way = os.O_RDWR if host.is_terminal_or_null(descriptor) else os.O_RDONLY
    flags = way | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fresh = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return False
    fcntl.fcntl(fresh, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND))
    position = host.call(8, descriptor, 0, os.SEEK_CUR)
    if position > 0:
        os.lseek(fresh, position, os.SEEK_SET)
    os.dup2(fresh, descriptor, inheritable=os.get_inheritable(descriptor))
    os.close(fresh)
    return True
