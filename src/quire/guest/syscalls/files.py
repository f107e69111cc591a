"""Calls on names and attributes of files: the host makes them as they stand.

The guest's working directory, umask and user are Quire's own, so relative paths and permissions mean what
they would mean natively.
"""

import errno

from quire.guest.kernel.task import Task
from quire.guest.syscalls import host, procfs
from quire.guest.syscalls.kinds import (
    FD,
    INT,
    OPTIONAL_PATH,
    PATH,
    PATH_MAX,
    POINTER,
    S32,
    S64,
    SYNCED_FD,
    Arg,
    In,
    Out,
)
from quire.guest.syscalls.opening import refuse_quires_memory
from quire.guest.syscalls.table import Effect, passes, syscall

_STAT = Out(144)
_STATX = Out(256)
_STATFS = Out(120)
_TIMES = In(32, nullable=True)
_FILES = Effect.FILES
_XATTR_MAX = 65536
_VALUE = In(Arg(3), limit=_XATTR_MAX, too_big=errno.E2BIG)
_VALUE_OUT = Out(Arg(3), limit=_XATTR_MAX, by_result=True)
_LIST_OUT = Out(Arg(2), limit=_XATTR_MAX, by_result=True)

passes(4, "stat", PATH, _STAT)
passes(5, "fstat", SYNCED_FD, _STAT)
passes(6, "lstat", PATH, _STAT)
passes(262, "newfstatat", SYNCED_FD, OPTIONAL_PATH, _STAT, INT)
passes(332, "statx", SYNCED_FD, OPTIONAL_PATH, INT, INT, _STATX)
passes(137, "statfs", PATH, _STATFS)
passes(138, "fstatfs", FD, _STATFS)
passes(21, "access", PATH, INT)
passes(269, "faccessat", FD, PATH, INT)
passes(439, "faccessat2", FD, PATH, INT, INT)
passes(217, "getdents64", FD, Out(Arg(2, bits=32), by_result=True), INT)
passes(78, "getdents", FD, Out(Arg(2, bits=32), by_result=True), INT)
passes(79, "getcwd", Out(Arg(1), limit=2 * PATH_MAX, by_result=True), INT)
passes(80, "chdir", PATH)
passes(81, "fchdir", FD)
passes(83, "mkdir", PATH, INT, effect=_FILES)
passes(258, "mkdirat", FD, PATH, INT, effect=_FILES)
passes(133, "mknod", PATH, INT, INT, effect=_FILES)
passes(259, "mknodat", FD, PATH, INT, INT, effect=_FILES)
passes(84, "rmdir", PATH, effect=_FILES)
passes(87, "unlink", PATH, effect=_FILES)
passes(263, "unlinkat", FD, PATH, INT, effect=_FILES)
passes(82, "rename", PATH, PATH, effect=_FILES)
passes(264, "renameat", FD, PATH, FD, PATH, effect=_FILES)
passes(316, "renameat2", FD, PATH, FD, PATH, INT, effect=_FILES)
passes(86, "link", PATH, PATH, effect=_FILES)
passes(265, "linkat", FD, PATH, FD, PATH, INT, effect=_FILES)
passes(88, "symlink", PATH, PATH, effect=_FILES)
passes(266, "symlinkat", PATH, FD, PATH, effect=_FILES)
passes(90, "chmod", PATH, INT, effect=_FILES)
passes(91, "fchmod", FD, INT, effect=_FILES)
passes(268, "fchmodat", FD, PATH, INT, effect=_FILES)
passes(452, "fchmodat2", FD, PATH, INT, INT, effect=_FILES)
passes(92, "chown", PATH, INT, INT, effect=_FILES)
passes(93, "fchown", FD, INT, INT, effect=_FILES)
passes(94, "lchown", PATH, INT, INT, effect=_FILES)
passes(260, "fchownat", FD, PATH, INT, INT, INT, effect=_FILES)
passes(132, "utime", PATH, In(16, nullable=True), effect=_FILES)
passes(235, "utimes", PATH, _TIMES, effect=_FILES)
passes(261, "futimesat", FD, OPTIONAL_PATH, _TIMES, effect=_FILES)
passes(280, "utimensat", SYNCED_FD, OPTIONAL_PATH, _TIMES, INT, effect=_FILES)
passes(95, "umask", INT)
passes(188, "setxattr", PATH, PATH, _VALUE, INT, INT, effect=_FILES)
passes(189, "lsetxattr", PATH, PATH, _VALUE, INT, INT, effect=_FILES)
passes(190, "fsetxattr", FD, PATH, _VALUE, INT, INT, effect=_FILES)
passes(191, "getxattr", PATH, PATH, _VALUE_OUT, INT)
passes(192, "lgetxattr", PATH, PATH, _VALUE_OUT, INT)
passes(193, "fgetxattr", FD, PATH, _VALUE_OUT, INT)
passes(194, "listxattr", PATH, _LIST_OUT, INT)
passes(195, "llistxattr", PATH, _LIST_OUT, INT)
passes(196, "flistxattr", FD, _LIST_OUT, INT)
passes(197, "removexattr", PATH, PATH, effect=_FILES)
passes(198, "lremovexattr", PATH, PATH, effect=_FILES)
passes(199, "fremovexattr", FD, PATH, effect=_FILES)
passes(253, "inotify_init", opens=True)
passes(294, "inotify_init1", INT, opens=True)
passes(254, "inotify_add_watch", FD, PATH, INT)
passes(255, "inotify_rm_watch", FD, INT)
passes(8, "lseek", SYNCED_FD, S64, INT)
passes(74, "fsync", SYNCED_FD, restart=True)
passes(75, "fdatasync", SYNCED_FD, restart=True)
passes(162, "sync")
passes(306, "syncfs", FD)
passes(221, "fadvise64", FD, S64, S64, INT)
passes(187, "readahead", FD, S64, INT)
passes(277, "sync_file_range", SYNCED_FD, S64, S64, INT)
passes(73, "flock", FD, INT, restart=True)


@syscall(77, "ftruncate", SYNCED_FD, S64, effect=Effect.OUTPUT)
def ftruncate(task: Task, descriptor: int, length: int) -> int:
    """Set a file's size; pages of it that are mapped shared follow."""
    result = host.call(77, descriptor, length)
    if result == 0:
        task.space.refresh_file(descriptor, 0, length)
    return result


@syscall(285, "fallocate", SYNCED_FD, S32, S64, S64, effect=Effect.OUTPUT)
def fallocate(task: Task, descriptor: int, mode: int, offset: int, length: int) -> int:
    """Allocate, punch or zero a range of a file."""
    result = host.call(285, descriptor, mode, offset, length)
    if result == 0:
        task.space.refresh_file(descriptor, offset, length)
    return result


@syscall(76, "truncate", PATH, S64, effect=Effect.FILES)
def truncate(task: Task, path: bytes, length: int) -> int:
    """Set the size of a named file, but never of Quire's own memory files, which /proc/self/fd names too."""
    refuse_quires_memory(task, -100, path)
    buffer = host.HostBuffer(len(path), path)
    return host.call(76, buffer.address, length)


def _readlink(task: Task, directory: int, path: bytes, pointer: int, size: int) -> int:
    if size <= 0:
        return -errno.EINVAL
    target = procfs.link_target(task, path)
    if target is None:
        name, out = host.HostBuffer(len(path), path), host.HostBuffer(PATH_MAX)
        result = host.call(267, directory, name.address, out.address, PATH_MAX)
        if result < 0:
            return result
        target = out.take(result)
    target = target[:size]
    task.memory.write(pointer, target)
    return len(target)


@syscall(89, "readlink", PATH, POINTER, S32)
def readlink(task: Task, path: bytes, pointer: int, size: int) -> int:
    """Read a symbolic link. /proc/self/exe is the guest's program, not Quire's interpreter."""
    return _readlink(task, -100, path, pointer, size)


@syscall(267, "readlinkat", FD, PATH, POINTER, S32)
def readlinkat(task: Task, directory: int, path: bytes, pointer: int, size: int) -> int:
    """Read a symbolic link relative to a directory."""
    return _readlink(task, directory, path, pointer, size)
