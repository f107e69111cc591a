"""Calls on names and attributes of files: the host makes them as they stand.

The guest's working directory is Quire's own, and its ids are those of Quire's thread, so relative paths and permissions
mean what they would mean natively.
"""

import errno
import os
import stat

from quire.arch import WORD
from quire.guest.kernel.task import Task
from quire.guest.mm.file_pages import refresh_file, sync_file
from quire.guest.mm.linux import PAGE_4K
from quire.guest.syscalls import host, procfs
from quire.guest.syscalls.channels import reserve_file
from quire.guest.syscalls.effects import Effect
from quire.guest.syscalls.file_size import check_new_size
from quire.guest.syscalls.file_times import TIMES, TIMEVALS, UTIMBUF
from quire.guest.syscalls.kinds import (
    AT_FDCWD,
    DIRECTORY,
    FD,
    INT,
    LINK,
    LINK_AT,
    NAME,
    PATH,
    PATH_AT,
    PATH_MAX,
    POINTER,
    S32,
    S64,
    U32,
    Arg,
    GivenPath,
    In,
    Out,
    Path,
)
from quire.guest.syscalls.opening import refuse_quires_memory
from quire.guest.syscalls.played_status import STAT, STATX, guests_link
from quire.guest.syscalls.proc_names import host_name, own_link
from quire.guest.syscalls.state import group_state
from quire.guest.syscalls.table import passes, syscall
from quire.guest.syscalls.waiting import wait_for_lock

_STATFS = Out(120)
_FILES = Effect.FILES
_FLOCK, _LOCK_NB = 73, 4
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_XATTR_MAX = 65536
_VALUE = In(Arg(3), limit=_XATTR_MAX, too_big=errno.E2BIG)
_VALUE_OUT = Out(Arg(3), limit=_XATTR_MAX, by_result=True)
_LIST_OUT = Out(Arg(2), limit=_XATTR_MAX, by_result=True)

passes(4, "stat", PATH, STAT, effect=Effect.READS)
passes(5, "fstat", FD, STAT, effect=Effect.GUEST)
passes(6, "lstat", LINK, STAT, effect=Effect.READS)
passes(262, "newfstatat", DIRECTORY, Path(nullable=True, flags=3, at=0), STAT, INT, effect=Effect.READS)
passes(332, "statx", DIRECTORY, Path(nullable=True, flags=2, at=0), INT, INT, STATX, effect=Effect.READS)
passes(137, "statfs", PATH, _STATFS, effect=Effect.READS)
passes(138, "fstatfs", FD, _STATFS, effect=Effect.GUEST)
passes(21, "access", PATH, INT, effect=Effect.READS)
passes(269, "faccessat", DIRECTORY, PATH_AT, INT, effect=Effect.READS)
passes(439, "faccessat2", DIRECTORY, PATH_AT, INT, INT, effect=Effect.READS)
passes(80, "chdir", PATH, effect=Effect.READS)
passes(81, "fchdir", FD, effect=Effect.INPUT)
passes(83, "mkdir", PATH, INT, effect=_FILES, creates=True)
passes(258, "mkdirat", FD, PATH_AT, INT, effect=_FILES, creates=True)
passes(133, "mknod", PATH, INT, INT, effect=_FILES, creates=True)
passes(259, "mknodat", FD, PATH_AT, INT, INT, effect=_FILES, creates=True)
passes(84, "rmdir", LINK, effect=_FILES)
passes(87, "unlink", LINK, effect=_FILES)
passes(263, "unlinkat", FD, LINK_AT, INT, effect=_FILES)
passes(82, "rename", LINK, LINK, effect=_FILES)
passes(264, "renameat", FD, LINK_AT, FD, Path(follow=False, at=2), effect=_FILES)
passes(316, "renameat2", FD, LINK_AT, FD, Path(follow=False, at=2), INT, effect=_FILES)
passes(86, "link", LINK, LINK, effect=_FILES)
passes(265, "linkat", FD, LINK_AT, FD, Path(follow=False, at=2), INT, effect=_FILES)
passes(88, "symlink", NAME, LINK, effect=_FILES)
passes(266, "symlinkat", NAME, FD, Path(follow=False, at=1), effect=_FILES)
passes(90, "chmod", PATH, INT, effect=_FILES)
passes(91, "fchmod", FD, INT, effect=_FILES)
passes(268, "fchmodat", FD, PATH_AT, INT, effect=_FILES)
passes(452, "fchmodat2", FD, PATH_AT, INT, INT, effect=_FILES)
passes(92, "chown", PATH, INT, INT, effect=_FILES)
passes(93, "fchown", FD, INT, INT, effect=_FILES)
passes(94, "lchown", LINK, INT, INT, effect=_FILES)
passes(260, "fchownat", FD, Path(flags=4, at=0), INT, INT, INT, effect=_FILES)
passes(132, "utime", PATH, UTIMBUF, effect=_FILES)
passes(235, "utimes", PATH, TIMEVALS, effect=_FILES)
passes(261, "futimesat", FD, Path(nullable=True, at=0), TIMEVALS, effect=_FILES)
passes(280, "utimensat", DIRECTORY, Path(nullable=True, flags=3, at=0), TIMES, INT, effect=_FILES)
passes(188, "setxattr", PATH, NAME, _VALUE, INT, INT, effect=_FILES)
passes(189, "lsetxattr", LINK, NAME, _VALUE, INT, INT, effect=_FILES)
passes(190, "fsetxattr", FD, NAME, _VALUE, INT, INT, effect=_FILES)
passes(191, "getxattr", PATH, NAME, _VALUE_OUT, INT, effect=Effect.READS)
passes(192, "lgetxattr", LINK, NAME, _VALUE_OUT, INT, effect=Effect.READS)
passes(193, "fgetxattr", FD, NAME, _VALUE_OUT, INT, effect=Effect.GUEST)
passes(194, "listxattr", PATH, _LIST_OUT, INT, effect=Effect.READS)
passes(195, "llistxattr", LINK, _LIST_OUT, INT, effect=Effect.READS)
passes(196, "flistxattr", FD, _LIST_OUT, INT, effect=Effect.GUEST)
passes(197, "removexattr", PATH, NAME, effect=_FILES)
passes(198, "lremovexattr", LINK, NAME, effect=_FILES)
passes(199, "fremovexattr", FD, NAME, effect=_FILES)
passes(253, "inotify_init", effect=Effect.GUEST, opens=True)
passes(294, "inotify_init1", INT, effect=Effect.GUEST, opens=True)
passes(254, "inotify_add_watch", FD, PATH, INT, effect=Effect.WATCHES)
passes(255, "inotify_rm_watch", FD, INT, effect=Effect.DESCRIPTION)
passes(8, "lseek", FD, S64, INT, effect=Effect.DESCRIPTION)
passes(162, "sync", effect=Effect.HINT)
passes(306, "syncfs", FD, effect=Effect.HINT)
passes(221, "fadvise64", FD, S64, S64, INT, effect=Effect.HINT)
passes(187, "readahead", FD, S64, INT, effect=Effect.HINT)
passes(277, "sync_file_range", FD, S64, S64, INT, effect=Effect.HINT)


@syscall(_FLOCK, "flock", FD, INT, effect=Effect.LOCKS, restart=True)
def flock(task: Task, descriptor: int, operation: int) -> int:
    """Lock an open file for a process and those that share it, or let it go."""
    result = host.call(_FLOCK, descriptor, operation | _LOCK_NB)
    if result == -errno.EAGAIN and not operation & _LOCK_NB:
        wait_for_lock(task)
    return result


@syscall(95, "umask", U32, effect=Effect.GUEST)
def umask(task: Task, mask: int) -> int:
    """Set what new files do not get of their mode; return what it was."""
    state = group_state(task)
    before, state.umask = state.umask, mask & 0o777
    return before


@syscall(74, "fsync", FD, effect=Effect.HINT, restart=True)
def fsync(task: Task, descriptor: int) -> int:
    """Have a file on its disk, with what the guest wrote through shared mappings of it."""
    failed = sync_file(task.space.pages, descriptor)
    return failed or host.call(74, descriptor)


@syscall(75, "fdatasync", FD, effect=Effect.HINT, restart=True)
def fdatasync(task: Task, descriptor: int) -> int:
    """Have the contents of a file on its disk, as :func:`fsync` does."""
    failed = sync_file(task.space.pages, descriptor)
    return failed or host.call(75, descriptor)


def _size(descriptor: int, otherwise: int) -> int:
    """Return the size of an open file that may be written to; `otherwise` for all else, whose error the host says."""
    try:
        status, flags = os.fstat(descriptor), host.call(72, descriptor, 3)
    except OSError:
        return otherwise
    plain = stat.S_ISREG(status.st_mode) and flags & os.O_ACCMODE and not flags & os.O_PATH
    return status.st_size if plain else otherwise


@syscall(77, "ftruncate", FD, S64, effect=Effect.OUTPUT)
def ftruncate(task: Task, descriptor: int, length: int) -> int:
    """Set a file's size; pages of it that are mapped shared follow."""
    check_new_size(task, length, _size(descriptor, length))
    reserve_file(task, descriptor, length)
    last = max(length, 0) // PAGE_4K * PAGE_4K
    sync_file(task.space.pages, descriptor, last, PAGE_4K)
    result = host.call(77, descriptor, length)
    if result == 0:
        refresh_file(task.space.pages, descriptor, last, WORD)
    return result


@syscall(285, "fallocate", FD, S32, S64, S64, effect=Effect.OUTPUT)
def fallocate(task: Task, descriptor: int, mode: int, offset: int, length: int) -> int:
    """Allocate, punch or zero a range of a file."""
    if offset >= 0 and length >= 0:
        if not mode & _KEEP_SIZE:
            check_new_size(task, offset + length, _size(descriptor, offset + length))
        reserve_file(task, descriptor, offset + length)
        sync_file(task.space.pages, descriptor, offset, length)
    result = host.call(285, descriptor, mode, offset, length)
    if result == 0:
        refresh_file(task.space.pages, descriptor, offset, length)
    return result


@syscall(76, "truncate", PATH, S64, effect=Effect.FILES)
def truncate(task: Task, path: bytes, length: int) -> int:
    """Set the size of a named file, but never of Quire's own memory files, which /proc/self/fd names too."""
    if (
        refuse_quires_memory(task, -100, path)
        and length >= 0
        and os.access(path, os.W_OK, effective_ids=True)
    ):
        return -errno.ETXTBSY
    buffer = host.HostBuffer(len(path), path)
    try:
        check_new_size(task, length, os.stat(path).st_size)
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # the call says it
    return host.call(76, buffer.address, length)


@syscall(79, "getcwd", POINTER, INT, effect=Effect.GUEST)
def getcwd(task: Task, pointer: int, size: int) -> int:
    """Tell the working directory; one of a task in procfs is the guest's."""
    out = host.HostBuffer(PATH_MAX)
    result = host.call(79, out.address, PATH_MAX)
    if result < 0:
        return result
    path = guests_link(task, out.take(result - 1)) + b"\0"
    if len(path) > size:
        return -errno.ERANGE
    task.memory.write(pointer, path)
    return len(path)


def _readlink(task: Task, directory: int, given: bytes, path: bytes, pointer: int, size: int) -> int:
    if size <= 0:
        return -errno.EINVAL
    target = own_link(task, task.tid, given, directory) or procfs.link_target(task, path)
    if target is None:
        name, out = host.HostBuffer(len(path), path), host.HostBuffer(PATH_MAX)
        result = host.call(267, directory, name.address, out.address, PATH_MAX)
        if result < 0:
            return result
        target = guests_link(task, out.take(result))
    target = target[:size]
    task.memory.write(pointer, target)
    return len(target)


@syscall(89, "readlink", GivenPath(follow=False), POINTER, S32, effect=Effect.READS)
def readlink(task: Task, names: tuple[bytes, bytes], pointer: int, size: int) -> int:
    """Read a symbolic link. /proc/self/exe is the guest's program, not Quire's interpreter."""
    return _readlink(task, AT_FDCWD, *names, pointer, size)


@syscall(267, "readlinkat", DIRECTORY, GivenPath(follow=False, at=0), POINTER, S32, effect=Effect.READS)
def readlinkat(task: Task, directory: int, names: tuple[bytes, bytes], pointer: int, size: int) -> int:
    """Read a symbolic link relative to a directory."""
    given, path = names
    path = path if path.startswith(b"/") else host_name(task, path, directory)
    return _readlink(task, directory, given, path, pointer, size)
