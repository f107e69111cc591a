"""ioctl: the requests that ordinary programs make of terminals, pipes, sockets and files.

A request is in the table with what its argument points to; any other one answers ENOTTY, as a device that
does not know it would. TIOCSTI (typing on behalf of the user) is left out on purpose.
"""

import errno
from enum import Enum

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.kinds import INT, SYNCED_FD, U32
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import syscall

_IOCTL = 16


class _Way(Enum):
    NUMBER = "number"  # the argument is a number, or none at all
    IN = "in"
    OUT = "out"


_TERMIOS, _TERMIOS2 = 36, 44
#: request: (direction, bytes, whether it changes the terminal or the file)
_REQUESTS: dict[int, tuple[_Way, int, bool]] = {
    0x5401: (_Way.OUT, _TERMIOS, False),  # TCGETS
    0x5402: (_Way.IN, _TERMIOS, True),  # TCSETS
    0x5403: (_Way.IN, _TERMIOS, True),  # TCSETSW
    0x5404: (_Way.IN, _TERMIOS, True),  # TCSETSF
    0x5409: (_Way.NUMBER, 0, True),  # TCSBRK
    0x540A: (_Way.NUMBER, 0, True),  # TCXONC
    0x540B: (_Way.NUMBER, 0, True),  # TCFLSH
    0x540F: (_Way.OUT, 4, False),  # TIOCGPGRP
    0x5410: (_Way.IN, 4, True),  # TIOCSPGRP
    0x5411: (_Way.OUT, 4, False),  # TIOCOUTQ
    0x5413: (_Way.OUT, 8, False),  # TIOCGWINSZ
    0x5414: (_Way.IN, 8, True),  # TIOCSWINSZ
    0x541B: (_Way.OUT, 4, False),  # FIONREAD
    0x5421: (_Way.IN, 4, False),  # FIONBIO
    0x5429: (_Way.OUT, 4, False),  # TIOCGSID
    0x5450: (_Way.NUMBER, 0, False),  # FIONCLEX
    0x5451: (_Way.NUMBER, 0, False),  # FIOCLEX
    0x5460: (_Way.OUT, 8, False),  # FIOQSIZE
    0x802C542A: (_Way.OUT, _TERMIOS2, False),  # TCGETS2
    0x402C542B: (_Way.IN, _TERMIOS2, True),  # TCSETS2
    0x402C542C: (_Way.IN, _TERMIOS2, True),  # TCSETSW2
    0x402C542D: (_Way.IN, _TERMIOS2, True),  # TCSETSF2
    0x80045430: (_Way.OUT, 4, False),  # TIOCGPTN
    0x80086601: (_Way.OUT, 8, False),  # FS_IOC_GETFLAGS
    0x80087601: (_Way.OUT, 8, False),  # FS_IOC_GETVERSION
    0x80081272: (_Way.OUT, 8, False),  # BLKGETSIZE64
    0x1268: (_Way.OUT, 4, False),  # BLKSSZGET
}
_UNSUPPORTED = {
    0x40049409,  # FICLONE
    0x4020940D,  # FICLONERANGE
    0xC0189436,  # FIDEDUPERANGE
}


@syscall(_IOCTL, "ioctl", SYNCED_FD, U32, INT, restart=True)
def ioctl(task: Task, descriptor: int, request: int, argument: int) -> int:
    """Control a device. ENOTTY for a request that Quire does not know; FICLONE is EOPNOTSUPP."""
    entry = _REQUESTS.get(request)
    if entry is None:
        flags = host.call(72, descriptor, 1)
        if flags < 0:
            return flags
        return -errno.EOPNOTSUPP if request in _UNSUPPORTED else -errno.ENOTTY
    way, size, changes = entry
    # Standard input may be the same terminal as standard output, which a sandboxed guest owns.
    if changes and task.options.sandbox and not group_state(task).owns(descriptor):
        return -errno.EPERM
    if way is _Way.NUMBER:
        return host.call(_IOCTL, descriptor, request, argument)
    if way is _Way.IN:
        data = task.memory.read(argument, size)
        return host.call(_IOCTL, descriptor, request, host.HostBuffer(size, data).address)
    buffer = host.HostBuffer(size)
    result = host.call(_IOCTL, descriptor, request, buffer.address)
    if result >= 0:
        task.memory.write(argument, buffer.take())
    return result
