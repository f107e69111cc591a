"""Descriptors of files that the kernel plays: opened for the caller, and read by it."""

import errno
import os

from quire.guest.kernel.played_files import PlayedFile
from quire.guest.kernel.task import Task
from quire.guest.kernel.waiting import Blocks
from quire.guest.mm.uaccess import BadAddress
from quire.guest.syscalls.host import identity_of
from quire.guest.syscalls.state import admit
from quire.guest.syscalls.waiting import is_blocking

__all__ = ["all_played", "is_played", "open_played", "read_played"]


def open_played(task: Task, file: PlayedFile, flags: int, *, writable: bool = False) -> int:
    """Return a new descriptor of `file`, with O_CLOEXEC and O_NONBLOCK of `flags`: -EMFILE. Raises OSError."""
    return admit(task, task.kernel.files.open(file, task.process.seat, flags, writable=writable))


def is_played(task: Task, *descriptors: int) -> bool:
    """Whether one of these descriptors is open on such a file."""
    if not task.kernel.files:
        return False
    identities = (identity_of(descriptor) for descriptor in descriptors)
    return any(one is not None and task.kernel.files.known(one) is not None for one in identities)


def read_played(
    task: Task, descriptor: int, file: PlayedFile, segments: list[tuple[int, int]], *, waits: bool
) -> int:
    """Read from `file`, which `descriptor` names, into user memory; return the number of bytes, or -EAGAIN."""
    try:
        data = file.read(task, sum(length for _, length in segments))
    except Blocks:
        if not waits or not is_blocking(descriptor):
            task.awaits = 0
            return -errno.EAGAIN
        raise
    done = 0
    for gva, length in segments:
        part = data[done : done + length]
        try:
            task.memory.write(gva, part)
        except BadAddress:
            if not done:
                raise
            break
        done += len(part)
    return done


def all_played(task: Task, descriptor: int) -> list[PlayedFile] | None:
    """Return what the epoll set of a descriptor watches, if all of it are such files; None if one is the host's."""
    found = []
    try:
        with open(f"/proc/thread-self/fdinfo/{descriptor}", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("tfd:")]
    except OSError:
        return None
    for words in lines:
        where = {name: value for name, _, value in (word.partition(":") for word in words)}
        try:
            device, inode = int(where["sdev"], 16), int(where["ino"], 16)
        except (KeyError, ValueError):
            return None  # a kernel that does not say
        one = task.kernel.files.known((os.makedev(device >> 20, device & 0xFFFFF), inode))
        if one is None:
            return None
        found.append(one)
    return found
