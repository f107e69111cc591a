"""ioctl: the requests that ordinary programs make of terminals, pipes, sockets and files.

A request is in the table with what its argument points to; any other one answers ENOTTY, as a device that
does not know it would. TIOCSTI (typing on behalf of the user) is left out on purpose.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from quire.arch import LOW32
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host, owners, ptys, terminals
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.kinds import FD, INT, U32
from quire.guest.syscalls.sandbox import verdict
from quire.guest.syscalls.table import syscall

__all__ = ["IOCTLS", "Ioctl"]

_IOCTL = 16


class Way(Enum):
    """What the argument of a request is."""

    NUMBER = "a number or nothing"
    IN = "bytes that the host reads"
    OUT = "bytes that the host writes"
    PLAYED = "what Quire's own answer makes of it"


_TERMIOS, _TERMIOS2 = 36, 44
_GUEST, _TERMINAL, _OTHERS, _PLAYED = Effect.GUEST, Effect.OUTPUT, Effect.OTHERS, Effect.PLAYED


@dataclass(frozen=True, slots=True)
class Ioctl:
    """A request: its name, which way its argument goes, how many bytes that are, what it may change.

    `front`: a process in the background gets SIGTTOU for it.
    """

    name: str
    way: Way
    size: int
    effect: Effect
    front: bool = False


#: The requests by their numbers.
IOCTLS: dict[int, Ioctl] = {
    0x5401: Ioctl("TCGETS", Way.OUT, _TERMIOS, _GUEST),
    0x5402: Ioctl("TCSETS", Way.IN, _TERMIOS, _TERMINAL, front=True),
    0x5403: Ioctl("TCSETSW", Way.IN, _TERMIOS, _TERMINAL, front=True),
    0x5404: Ioctl("TCSETSF", Way.IN, _TERMIOS, _TERMINAL, front=True),
    0x5409: Ioctl("TCSBRK", Way.NUMBER, 0, _TERMINAL, front=True),
    0x540A: Ioctl("TCXONC", Way.NUMBER, 0, _OTHERS, front=True),
    0x540B: Ioctl("TCFLSH", Way.NUMBER, 0, _TERMINAL, front=True),
    0x540E: Ioctl("TIOCSCTTY", Way.PLAYED, 0, _PLAYED),
    0x540F: Ioctl("TIOCGPGRP", Way.PLAYED, 0, _PLAYED),
    0x5410: Ioctl("TIOCSPGRP", Way.PLAYED, 0, _PLAYED),
    0x5411: Ioctl("TIOCOUTQ", Way.OUT, 4, _GUEST),
    0x5413: Ioctl("TIOCGWINSZ", Way.OUT, 8, _GUEST),
    0x5414: Ioctl("TIOCSWINSZ", Way.PLAYED, 0, _OTHERS),
    0x541B: Ioctl("FIONREAD", Way.OUT, 4, _GUEST),
    0x5420: Ioctl("TIOCPKT", Way.IN, 4, _OTHERS),
    0x5421: Ioctl("FIONBIO", Way.IN, 4, Effect.DESCRIPTION),
    0x5422: Ioctl("TIOCNOTTY", Way.PLAYED, 0, _PLAYED),
    0x5425: Ioctl("TCSBRKP", Way.NUMBER, 0, _OTHERS, front=True),
    0x5429: Ioctl("TIOCGSID", Way.PLAYED, 0, _PLAYED),
    0x5441: Ioctl("TIOCGPTPEER", Way.PLAYED, 0, _OTHERS),
    0x5450: Ioctl("FIONCLEX", Way.NUMBER, 0, _GUEST),
    0x5451: Ioctl("FIOCLEX", Way.NUMBER, 0, _GUEST),
    0x5452: Ioctl("FIOASYNC", Way.IN, 4, _OTHERS),
    0x5460: Ioctl("FIOQSIZE", Way.OUT, 8, _GUEST),
    0x802C542A: Ioctl("TCGETS2", Way.OUT, _TERMIOS2, _GUEST),
    0x402C542B: Ioctl("TCSETS2", Way.IN, _TERMIOS2, _TERMINAL, front=True),
    0x402C542C: Ioctl("TCSETSW2", Way.IN, _TERMIOS2, _TERMINAL, front=True),
    0x402C542D: Ioctl("TCSETSF2", Way.IN, _TERMIOS2, _TERMINAL, front=True),
    0x80045430: Ioctl("TIOCGPTN", Way.OUT, 4, _GUEST),
    0x40045431: Ioctl("TIOCSPTLCK", Way.IN, 4, _OTHERS),
    0x80045432: Ioctl("TIOCGDEV", Way.OUT, 4, _GUEST),
    0x40045436: Ioctl("TIOCSIG", Way.PLAYED, 0, _PLAYED),
    0x80045438: Ioctl("TIOCGPKT", Way.OUT, 4, _GUEST),
    0x80045439: Ioctl("TIOCGPTLCK", Way.OUT, 4, _GUEST),
    0x80086601: Ioctl("FS_IOC_GETFLAGS", Way.OUT, 8, _GUEST),
    0x80087601: Ioctl("FS_IOC_GETVERSION", Way.OUT, 8, _GUEST),
    0x80081272: Ioctl("BLKGETSIZE64", Way.OUT, 8, _GUEST),
    0x1268: Ioctl("BLKSSZGET", Way.OUT, 4, _GUEST),
    0x8901: Ioctl("FIOSETOWN", Way.PLAYED, 0, _OTHERS),
    0x8902: Ioctl("SIOCSPGRP", Way.PLAYED, 0, _OTHERS),
    0x8903: Ioctl("FIOGETOWN", Way.PLAYED, 0, _GUEST),
    0x8904: Ioctl("SIOCGPGRP", Way.PLAYED, 0, _GUEST),
}
#: Who answers the requests that the host does not get as they stand.
_PLAYERS: dict[str, Callable[[Task, int, int], int]] = {
    "TIOCSCTTY": terminals.set_controlling,
    "TIOCNOTTY": terminals.give_up,
    "TIOCGPGRP": terminals.get_group,
    "TIOCSPGRP": terminals.set_group,
    "TIOCGSID": terminals.get_session,
    "TIOCSWINSZ": ptys.resize,
    "TIOCGPTPEER": ptys.open_peer,
    "TIOCSIG": ptys.send_signal,
    "FIOSETOWN": owners.set_owner_of_socket,
    "SIOCSPGRP": owners.set_owner_of_socket,
    "FIOGETOWN": owners.get_owner_of_socket,
    "SIOCGPGRP": owners.get_owner_of_socket,
}
_UNSUPPORTED = {
    0x40049409,  # FICLONE
    0x4020940D,  # FICLONERANGE
    0xC0189436,  # FIDEDUPERANGE
}


@syscall(_IOCTL, "ioctl", FD, U32, INT, effect=Effect.CHOOSES, restart=True)
def ioctl(task: Task, descriptor: int, request: int, argument: int) -> int:
    """Control a device. ENOTTY for a request that Quire does not know; FICLONE is EOPNOTSUPP."""
    entry = IOCTLS.get(request)
    if entry is None:
        flags = host.call(72, descriptor, 1)
        if flags < 0:
            return flags
        return -errno.EOPNOTSUPP if request in _UNSUPPORTED else -errno.ENOTTY
    if task.options.sandbox:
        answer = verdict(task, entry.effect, (descriptor & LOW32,))
        if answer is not None:
            return -errno.EPERM
    if entry.way is Way.PLAYED:
        return _PLAYERS[entry.name](task, descriptor, argument)
    if entry.front:
        refused = terminals.check_change(task, descriptor, by_master=entry.way is Way.IN)
        if refused:
            return refused
    if entry.way is Way.NUMBER:
        return host.call(_IOCTL, descriptor, request, argument)
    if entry.way is Way.IN:
        buffer = host.HostBuffer(entry.size, task.memory.read(argument, entry.size))
        return host.call(_IOCTL, descriptor, request, buffer.address)
    buffer = host.HostBuffer(entry.size)
    result = host.call(_IOCTL, descriptor, request, buffer.address)
    if result >= 0:
        task.memory.write(argument, buffer.take())
    return result
