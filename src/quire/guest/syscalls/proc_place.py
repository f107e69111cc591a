"""Where in procfs a file lies: of which task, under which name. Judged by what a file is, not by what it is called.

A procfs may be mounted anywhere, several times, bound to other names, and be of another process namespace. So a file is
of procfs when its file system is of that type; its task is the one whose status lies in a directory above it; and that
is Quire's own when its process namespace and its number there are.
"""

import os
from dataclasses import dataclass

from quire.guest.syscalls import host

__all__ = ["ProcPlace", "place_of"]

_FSTATFS = 138
_STATFS_BYTES = 120
_PROC_MAGIC = 0x9FA0  # PROC_SUPER_MAGIC
_DELETED = " (deleted)"
_ROOT_INODE = 1  # PROC_ROOT_INO: the mount itself


@dataclass(frozen=True, slots=True)
class ProcPlace:
    """A file of procfs. `name` is that below its task's directory, or below the mount when it is no task's.

    `own` says that the task is a thread of Quire's process, `thread` its number if it is not the guest's.
    """

    name: str
    own: bool = False
    thread: int | None = None


def _is_procfs(descriptor: int) -> bool:
    found = host.HostBuffer(_STATFS_BYTES)
    if host.call(_FSTATFS, descriptor, found.address) < 0:
        return False
    return int.from_bytes(found.take(8), "little") == _PROC_MAGIC


def place_of(descriptor: int) -> ProcPlace | None:
    """Return where in procfs the file behind a descriptor lies; None for one of another file system.

    A file whose task cannot be told is taken for Quire's: it has the name that none of a task has.
    """
    if not _is_procfs(descriptor):
        return None
    if os.fstat(descriptor).st_ino == _ROOT_INODE:
        return ProcPlace("")
    link = host.path_of(descriptor).removesuffix(_DELETED)
    if not link.startswith("/"):
        return ProcPlace("?", own=True)
    parts = link.split("/")[1:]
    for depth in range(len(parts), -1, -1):
        directory = "/" + "/".join(parts[:depth])
        numbers = _numbers(directory)
        if numbers is not None:
            own, thread = _whose(directory, numbers)
            return ProcPlace("/".join(parts[depth:]), own, thread)
    # One file of it may be bound to a name elsewhere: then nothing says whose it is.
    return (
        ProcPlace(parts[-1]) if _is_procfs_directory("/" + "/".join(parts[:-1])) else ProcPlace("?", own=True)
    )


def _is_procfs_directory(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_procfs(descriptor)
    finally:
        os.close(descriptor)


def _numbers(directory: str) -> list[int] | None:
    """Return the numbers of the task whose directory this is, from the outermost namespace that tells to its own."""
    try:
        descriptor = os.open(f"{directory}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not _is_procfs(descriptor):
            return None
        lines = os.read(descriptor, 1 << 16).split(b"\n")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    for line in lines:
        if line.startswith(b"NSpid:"):
            return [int(word) for word in line.split()[1:]]
    return None


def _whose(directory: str, numbers: list[int]) -> tuple[bool, int | None]:
    """Return whether a task is Quire's, and its number if it is another than the one that runs the guest."""
    try:
        namespace, own = os.stat(f"{directory}/ns/pid"), os.stat("/proc/self/ns/pid")
    except OSError:
        return False, None
    number = numbers[-1]
    if (namespace.st_dev, namespace.st_ino) != (own.st_dev, own.st_ino):
        return False, None
    if number == os.getpid():
        return True, None
    return (True, number) if os.path.exists(f"/proc/self/task/{number}") else (False, None)
