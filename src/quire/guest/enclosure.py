"""The walls around a sandboxed guest, put up when its program is loaded and before its first instruction.

The first is Quire's table of effects. Behind it the host's kernel refuses the same to the whole process, where it has
Landlock and seccomp: these cannot be taken down, so they stand only in a process of Quire's own, and after every file
that Quire writes is open.
"""

import os
import site
import sys
import sysconfig
from collections.abc import Sequence

from quire.guest.inherited import separate
from quire.guest.kernel.process import ProcessGuest
from quire.guest.landlock import Right, landlock_version, restrict
from quire.guest.load.libraries import files_of
from quire.guest.own_process import is_own_process
from quire.guest.seccomp import install
from quire.guest.syscalls.readable import Readable
from quire.guest.syscalls.state import group_state
from quire.kernels.loading import load_everything

__all__ = ["enclose", "host_walls"]

_READ = Right.READ_FILE | Right.READ_DIR
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random", "/dev/urandom")
_EVERYTHING = Right(sum(Right))


def enclose(guest: ProcessGuest, allow_read: Sequence[str]) -> list[str]:
    """Put up the walls; return the names of those that stand. `allow_read` closes the read side but for these paths."""
    own = is_own_process()
    separate(guest, anew=own)
    roots: list[bytes] | None = None
    if allow_read:
        environ = dict(word.split(b"=", 1) for word in guest.program.envp if b"=" in word)
        given = [os.fsencode(path) for path in allow_read]
        readable = Readable([*given, *files_of(guest.program, environ)])
        group_state(guest).readable = readable
        roots = readable.roots
    return ["table of effects", *(host_walls(roots) if own else ())]


def host_walls(roots: Sequence[bytes] | None) -> list[str]:
    """Have the host's kernel refuse this process what a sandbox does, for good; return the names of what stands.

    Nothing may be written from now on but what is open; nothing be read outside `roots` unless that is None.
    """
    walls = []
    load_everything()
    if _landlock(roots):
        walls.append(f"landlock {landlock_version()}")
    if install():
        walls.append("seccomp")
    return walls


def _landlock(roots: Sequence[bytes] | None) -> bool:
    """Have the kernel refuse writes, and reads outside `roots` if there are any."""
    if len(os.listdir("/proc/self/task")) > 1:
        return False  # it holds for one thread and those that this one starts: others would stay outside
    refused = _EVERYTHING if roots is not None else _EVERYTHING & ~_READ
    harmless = Right.READ_FILE | Right.WRITE_FILE | Right.TRUNCATE | Right.IOCTL_DEV
    allowed: list[tuple[str | int, Right]] = [(device, harmless) for device in _DEVICES]
    allowed += [(descriptor, harmless) for descriptor in (0, 1, 2)]
    allowed += [(os.fsdecode(root), _READ) for root in roots or ()]
    allowed += [(path, _READ) for path in _quires_own()]
    return restrict(refused, allowed)


def _quires_own() -> list[str]:
    """Return what Quire itself still reads: Python's modules, and what the kernel says of this process."""
    paths = {
        *sys.path,
        sys.prefix,
        sys.base_prefix,
        *site.getsitepackages(),
        *sysconfig.get_paths().values(),
        "/proc",
    }
    return sorted(path for path in paths if path and os.path.exists(path))
