"""Opening files: open, openat, openat2, creat, and what a guest must not get hold of that way.

A file is opened on the host first and looked at afterwards: so no spelling, symbolic link, mount or working directory
hides that it is one of /proc/self, which on the host is Quire itself.
"""

import errno
import os
import stat
import struct

from quire.guest.kernel.task import Task, ThreadGroup
from quire.guest.syscalls import host, procfs
from quire.guest.syscalls.busy_files import is_running, to_be_written
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.fifos import open_fifo
from quire.guest.syscalls.kinds import FD, INT, PATH, PATH_AT, POINTER, U32, fail
from quire.guest.syscalls.proc_machine import OF_SYSFS
from quire.guest.syscalls.proc_names import host_name
from quire.guest.syscalls.ptys import follow_open, open_current
from quire.guest.syscalls.state import admit, creating, group_state
from quire.guest.syscalls.table import syscall
from quire.guest.syscalls.terminals import CURRENT
from quire.own_descriptors import FIRST_OWN

__all__ = ["open_file", "refuse_quires_memory"]

_OPEN, _OPENAT, _OPENAT2 = 2, 257, 437
_AT_FDCWD = -100
_O_TMPFILE = 0o20000000
_HOW_SIZE = 24  # struct open_how, version 0
_HOW_MAX = 4096
#: /dev/mem, /dev/kmem and /dev/port.
_MEMORY_DEVICES = {(1, 1), (1, 2), (1, 4)}
_CHANGES = os.O_CREAT | os.O_TRUNC | _O_TMPFILE
#: What of the flags counts when a name is only looked up.
_LOOKED_UP_BY = os.O_DIRECTORY | os.O_NOFOLLOW


def _quires_identities() -> set[tuple[int, int]]:
    """Return what Quire's own descriptors name."""
    found = set()
    for name in os.listdir("/proc/thread-self/fd"):
        identity = host.identity_of(int(name)) if int(name) >= FIRST_OWN else None
        if identity is not None:
            found.add(identity)
    return found


def _check(group: ThreadGroup, descriptor: int, flags: int) -> procfs.ProcPlace | None:
    """Return where in procfs a file lies that was opened with `flags`, if it is of Quire's own task.

    Raises OSError for a file that no guest may have: Quire's memory, by /proc/self/mem, by /proc/self/fd/N opened once
    more, or with that of the whole machine.
    """
    place = procfs.check(group, descriptor, flags)
    if place is not None:
        return place
    status = os.fstat(descriptor)
    if (
        stat.S_ISCHR(status.st_mode)
        and (os.major(status.st_rdev), os.minor(status.st_rdev)) in _MEMORY_DEVICES
    ):
        raise fail(errno.EACCES)
    # The descriptors of Quire also hold what the guest has mapped: files with names, and its own memory files.
    link = host.path_of(descriptor)
    if link.startswith("/") and not link.startswith("/memfd:"):
        return None
    identity, state = host.identity_of(descriptor), group_state(group)
    if not state.owns(descriptor) and identity not in state.given and identity in _quires_identities():
        raise fail(errno.EACCES)
    return None


def refuse_quires_memory(group: ThreadGroup, directory: int, path: bytes) -> bool:
    """Raise EACCES when a path names one of Quire's own files; return whether it names a program that runs.

    Names that do not exist are left to the call.
    """
    name = host.HostBuffer(len(path), path)
    descriptor = host.call(_OPENAT, directory, name.address, os.O_PATH | os.O_CLOEXEC)
    if descriptor < 0:
        return False
    try:
        _check(group, descriptor, os.O_TRUNC)
        return is_running(group, host.identity_of(descriptor))
    finally:
        os.close(descriptor)


def _open_harmless(group: ThreadGroup, directory: int, path: bytes, flags: int) -> int:
    """Open for writing in a sandbox: /dev/null and its like, /dev/tty, /dev/stdout; else EACCES."""
    name = host.HostBuffer(len(path), path)
    looked_up = host.call(_OPENAT, directory, name.address, os.O_PATH | os.O_CLOEXEC)
    if looked_up < 0:
        return looked_up if looked_up != -errno.ENOENT or not flags & os.O_CREAT else -errno.EACCES
    try:
        harmless = host.is_terminal_or_null(looked_up) or group_state(group).owns(looked_up)
        if flags & os.O_EXCL or not harmless or not _may_read(group, looked_up, flags):
            return -errno.EACCES
        # Through the descriptor, so that it is the file just looked at; opened while it is still held, so
        # that the new number is only right after the swap below.
        again = f"/proc/thread-self/fd/{looked_up}".encode()
        buffer = host.HostBuffer(len(again), again)
        opened = host.call(_OPENAT, _AT_FDCWD, buffer.address, flags & ~(_CHANGES | os.O_NOFOLLOW))
        if opened >= 0:
            os.dup2(opened, looked_up, inheritable=not flags & os.O_CLOEXEC)
            os.close(opened)
            opened, looked_up = looked_up, -1
        return opened
    finally:
        if looked_up >= 0:
            os.close(looked_up)


def _may_read(group: ThreadGroup, descriptor: int, flags: int) -> bool:
    """Whether opening a file with `flags` in a sandbox, to read, takes nothing from others."""
    if flags & os.O_ACCMODE == os.O_WRONLY:
        return True
    return host.is_unshared(descriptor) or group_state(group).takes(descriptor)


def _check_unshared(group: ThreadGroup, directory: int, path: bytes, flags: int, resolve: int | None) -> None:
    """Raise EACCES when a file that is to be read in a sandbox is a pipe, a device or the like that others use."""
    looked_up = _host_open(directory, path, flags & _LOOKED_UP_BY | os.O_PATH | os.O_CLOEXEC, 0, resolve)
    if looked_up < 0:
        return  # the call itself says why
    try:
        if not _may_read(group, looked_up, flags):
            raise fail(errno.EACCES)
    finally:
        os.close(looked_up)


def _changes(flags: int) -> bool:
    return not flags & os.O_PATH and (flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & _CHANGES))


def _host_open(directory: int, path: bytes, flags: int, mode: int, resolve: int | None) -> int:
    name = host.HostBuffer(len(path), path)
    if resolve is None:
        return host.call(_OPENAT, directory, name.address, flags, mode)
    how = host.HostBuffer(_HOW_SIZE, struct.pack("<QQQ", flags, mode, resolve))
    return host.call(_OPENAT2, directory, name.address, how.address, _HOW_SIZE)


def _names_current(directory: int, path: bytes, flags: int, resolve: int | None) -> bool:
    """Whether a path names the device /dev/tty."""
    looked_up = _host_open(directory, path, flags & _LOOKED_UP_BY | os.O_PATH | os.O_CLOEXEC, 0, resolve)
    if looked_up < 0:
        return False
    try:
        status = os.fstat(looked_up)
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == CURRENT
    finally:
        os.close(looked_up)


def _make_open(task: Task, directory: int, path: bytes, flags: int, mode: int, resolve: int | None) -> int:
    """Have the host open a file as a sandbox lets it; no terminal becomes Quire's own. /dev/tty is the guest's."""
    noted = flags if flags & os.O_PATH else flags | os.O_NOCTTY
    if task.options.sandbox and _changes(flags):
        opened = _open_harmless(task, directory, path, noted)
    else:
        if task.options.sandbox and not flags & os.O_PATH:
            _check_unshared(task, directory, path, flags, resolve)
        if flags & os.O_TRUNC and refuse_quires_memory(task, directory, path):
            noted &= ~os.O_TRUNC  # as if it were only opened: who looks at it refuses it then
        with creating(task):
            fifo = open_fifo(task, directory, path, noted)
            opened = _host_open(directory, path, noted, mode, resolve) if fifo is None else fifo
    names = opened == -errno.ENXIO and _names_current(directory, path, flags, resolve)
    return open_current(task, opened, names, flags)


def open_file(
    task: Task, directory: int, path: bytes, flags: int, mode: int, resolve: int | None = None
) -> int:
    """Open a file for the guest and return its descriptor or -errno; `resolve` makes it an openat2.

    Files of /proc/self show the guest, not Quire; Quire's own memory is EACCES.
    """
    if not path.startswith(b"/"):
        path = host_name(task, path, directory)
    readable = group_state(task).readable
    target = procfs.link_target(task, path)
    if readable is not None:
        readable.check_name(directory, target or path)
    if target is not None and not flags & os.O_NOFOLLOW:
        directory, path = _AT_FDCWD, target
    opened = _make_open(task, directory, path, flags, mode, resolve)
    if opened < 0:
        return opened
    opened = admit(task, opened)
    if opened >= 0:
        try:
            place = _check(task, opened, flags)
            if to_be_written(flags) and is_running(task, host.identity_of(opened)):
                raise fail(errno.ETXTBSY)
            if readable is not None:
                readable.check_opened(opened)
        except OSError:
            group_state(task).opened.discard(opened)
            os.close(opened)
            raise
        if place is not None:
            procfs.substitute(task, opened, place, flags)
        elif path.startswith(b"/sys/"):
            shown = host.path_of(opened)
            if shown in OF_SYSFS and not flags & os.O_PATH:
                procfs.replace_by_text(opened, shown, OF_SYSFS[shown](task), flags)
        else:
            follow_open(task, opened, flags)
    return opened


@syscall(_OPEN, "open", PATH, U32, U32, effect=Effect.CHOOSES, restart=True)
def open_(task: Task, path: bytes, flags: int, mode: int) -> int:
    """Open a file."""
    return open_file(task, _AT_FDCWD, path, flags, mode)


@syscall(85, "creat", PATH, U32, effect=Effect.CHOOSES, restart=True)
def creat(task: Task, path: bytes, mode: int) -> int:
    """Create or truncate a file."""
    return open_file(task, _AT_FDCWD, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


@syscall(_OPENAT, "openat", FD, PATH_AT, U32, U32, effect=Effect.CHOOSES, restart=True)
def openat(task: Task, directory: int, path: bytes, flags: int, mode: int) -> int:
    """Open a file relative to a directory."""
    return open_file(task, directory, path, flags, mode)


@syscall(_OPENAT2, "openat2", FD, PATH_AT, POINTER, INT, effect=Effect.CHOOSES, restart=True)
def openat2(task: Task, directory: int, path: bytes, pointer: int, size: int) -> int:
    """Open a file with restrictions on how its path may resolve.

    Bytes beyond version 0 must be zero: E2BIG.
    """
    if size < _HOW_SIZE:
        return -errno.EINVAL
    if size > _HOW_MAX:
        return -errno.E2BIG
    how = task.memory.read(pointer, size)
    if any(how[_HOW_SIZE:]):
        return -errno.E2BIG
    flags, mode, resolve = struct.unpack_from("<QQQ", how)
    if flags >> 32 or mode >> 32:
        return -errno.EINVAL
    return open_file(task, directory, path, flags, mode, resolve)
