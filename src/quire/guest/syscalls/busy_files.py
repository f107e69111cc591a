"""Programs that run are not written, and files that are open for writing are not executed: ETXTBSY.

Linux counts for each file who may write it, and whose program it is (deny_write_access). Here both are looked up when
somebody asks, among the guest's processes: what runs is in their images, what they have open the host knows.
"""

import errno
import os

from quire.guest.kernel.group import Process
from quire.guest.kernel.task import ThreadGroup
from quire.guest.load.launch import Program

__all__ = ["check_executed", "is_running", "to_be_written"]


def is_running(group: ThreadGroup, identity: tuple[int, int] | None) -> bool:
    """Whether the file of this device and inode is the program of a process."""
    return identity is not None and any(one.image.file == identity for one in group.kernel.live())


def to_be_written(flags: int) -> bool:
    """Whether who opens a file with these flags writes it."""
    return not flags & os.O_PATH and (flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC))


def check_executed(group: ThreadGroup, path: str, program: Program | None = None) -> None:
    """Raise ETXTBSY if a process has the file at `path` open to write, or one that `program` is loaded from."""
    paths = [path]
    if program is not None:
        paths = [program.path] + ([] if program.interpreter is None else [program.interpreter.path])
    tables = {one.seat.table: one for one in group.kernel.live()}
    for name in dict.fromkeys(paths):
        try:
            status = os.stat(name)
        except (OSError, ValueError):
            continue  # who opens it says why
        identity = status.st_dev, status.st_ino
        if any(_writes(process, identity) for process in tables.values()):
            raise OSError(errno.ETXTBSY, "it is open for writing")


def _writes(process: Process, identity: tuple[int, int]) -> bool:
    """Whether a process has a file open to write, as far as the host shows its descriptors."""
    folder = f"/proc/self/task/{process.seat.native_id}"
    try:
        numbers = os.listdir(f"{folder}/fd")
    except OSError:
        return False  # it has become another user's
    return any(_is_open_to_write(folder, number, identity) for number in numbers)


def _is_open_to_write(folder: str, number: str, identity: tuple[int, int]) -> bool:
    """Whether one descriptor writes the file; a memory file is executed though it was made to be written."""
    try:
        status = os.stat(f"{folder}/fd/{number}")
        if (status.st_dev, status.st_ino) != identity:
            return False
        with open(f"{folder}/fdinfo/{number}", encoding="ascii") as file:
            flags = next(line for line in file if line.startswith("flags:"))
        made = os.readlink(f"{folder}/fd/{number}").startswith("/memfd:")
    except OSError:
        return False  # that of the listing itself
    return not made and int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
