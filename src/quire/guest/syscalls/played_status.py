"""What a guest is told of open files that are not what the host has: files that the kernel plays, processes, /proc.

The host has a pipe behind each that the kernel plays, and its own numbers in the names of procfs. What stat and the
links of /proc/PID/fd say of those is what Linux says of the real ones: the host is asked for one of its own. Times are
shown on the guest's clock.
"""

import functools
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

from quire.guest.kernel.named_queues import QueueFile
from quire.guest.kernel.played_files import PlayedFile
from quire.guest.kernel.task import Task
from quire.guest.syscalls import host
from quire.guest.syscalls.file_times import stat_times, statx_times
from quire.guest.syscalls.kinds import HostCall, Out
from quire.guest.syscalls.pidfds import process_behind
from quire.guest.syscalls.proc_names import process_at
from quire.guest.syscalls.procfs import TEXT_NAME

__all__ = ["STAT", "STATX", "guests_link"]

_FSTAT, _STATX = 5, 332
_STAT_BYTES, _STATX_BYTES = 144, 256
_EMPTY_PATH, _BASIC = 0x1000, 0x7FF
#: Offsets in struct stat: the device and the inode; links, mode, user, group; the size.
_IDENTITY, _OWNER, _SIZE = struct.Struct("<QQ"), struct.Struct("<QIII"), 48
_OWNER_AT = 16
#: The same in struct statx: links, user, group, mode; inode, size; major and minor number of the device.
_OWNER_X, _OWNER_X_AT, _INODE_X_AT, _SIZE_X_AT, _DEVICE_X_AT = struct.Struct("<IIIH"), 16, 32, 40, 136
_QUEUE_BYTES = 80  # FILENT_SIZE: what a queue of messages says of its size
_PIPE = re.compile(rb"pipe:\[([0-9]+)\]")
_TEXT = re.compile(rb"/memfd:%s(/(?:proc|sys)/.+) \(deleted\)" % TEXT_NAME.encode())
_OF_HOST = re.compile(rb"/proc/([0-9]+)(?:/task/([0-9]+))?(?=/|$)")
_PROCESS_LINK = b"anon_inode:[pidfd]"


@functools.cache
def _pipes_device() -> int:
    reader, writer = os.pipe()
    device = os.fstat(reader).st_dev
    os.close(reader)
    os.close(writer)
    return device


@functools.cache
def _anonymous(call: int, kind: str) -> bytes:
    """Return what the host says, by fstat or statx, of an event channel or of a process of its own."""
    made = os.eventfd(0, os.EFD_CLOEXEC) if kind == "event" else os.pidfd_open(os.getpid())
    try:
        found = host.HostBuffer(_STAT_BYTES if call == _FSTAT else _STATX_BYTES)
        empty = host.HostBuffer(1)
        words = () if call == _FSTAT else (empty.address, _EMPTY_PATH, _BASIC)
        host.call(call, made, *words, found.address)
        return found.take()
    finally:
        os.close(made)


def _played(task: Task, key: tuple[int, int]) -> PlayedFile | None:
    return task.kernel.files.known(key) if task.kernel.files else None


def _stat(task: Task, data: bytes) -> bytes:
    """Return a struct stat as the guest is to see it."""
    if not stat.S_ISFIFO(_OWNER.unpack_from(data, _OWNER_AT)[1]):
        return data
    key = _IDENTITY.unpack_from(data)
    file, process = _played(task, key), process_behind(task, key)
    if isinstance(file, QueueFile):
        queue, made = file.messages, bytearray(data)
        links = int(not queue.unlinked)
        _OWNER.pack_into(made, _OWNER_AT, links, stat.S_IFREG | queue.mode, queue.uid, queue.gid)
        struct.pack_into("<q", made, _SIZE, _QUEUE_BYTES)
        return bytes(made)
    if file is not None:
        return _anonymous(_FSTAT, "event")
    if process is None:
        return data
    made = bytearray(_anonymous(_FSTAT, "process"))
    if made[:8] != _anonymous(_FSTAT, "event")[:8]:  # a kernel where each process has an inode
        struct.pack_into("<Q", made, 8, process.pid)
    return bytes(made)


def _statx(task: Task, data: bytes) -> bytes:
    """Return a struct statx as the guest is to see it."""
    if not stat.S_ISFIFO(_OWNER_X.unpack_from(data, _OWNER_X_AT)[3]):
        return data
    major, minor = struct.unpack_from("<II", data, _DEVICE_X_AT)
    key = os.makedev(major, minor), struct.unpack_from("<Q", data, _INODE_X_AT)[0]
    file, process = _played(task, key), process_behind(task, key)
    if isinstance(file, QueueFile):
        queue, made = file.messages, bytearray(data)
        links = int(not queue.unlinked)
        _OWNER_X.pack_into(made, _OWNER_X_AT, links, queue.uid, queue.gid, stat.S_IFREG | queue.mode)
        struct.pack_into("<Q", made, _SIZE_X_AT, _QUEUE_BYTES)
        return bytes(made)
    if file is not None:
        return _anonymous(_STATX, "event")
    if process is None:
        return data
    made = bytearray(_anonymous(_STATX, "process"))
    if made[_DEVICE_X_AT:] != _anonymous(_STATX, "event")[_DEVICE_X_AT:]:
        struct.pack_into("<Q", made, _INODE_X_AT, process.pid)
    return bytes(made)


@dataclass(frozen=True)
class _Status(Out):
    """What the host says of a file, as `shown` has the guest see it."""

    shown: Callable[[Task, bytes], bytes] = _stat
    times: Callable[[Task, bytes], bytes] = stat_times

    def finish(self, call: HostCall, index: int, result: int) -> None:
        buffer = call.buffers.get(index)
        if buffer is not None:
            said = self.shown(call.task, buffer.take())
            call.task.memory.write(call.raw[index], self.times(call.task, said))


STAT, STATX = _Status(_STAT_BYTES), _Status(_STATX_BYTES, shown=_statx, times=statx_times)


def guests_link(task: Task, target: bytes) -> bytes:
    """Return what a link of procfs leads to, or where a directory lies, as the guest is to see it."""
    pipe = _PIPE.fullmatch(target)
    if pipe is not None:
        key = _pipes_device(), int(pipe[1])
        file = _played(task, key)
        if file is not None:
            return file.link
        return target if process_behind(task, key) is None else _PROCESS_LINK
    text = _TEXT.fullmatch(target)
    if text is not None:
        return text[1]
    place = _OF_HOST.match(target)
    if place is None or int(place[1]) != os.getpid():
        return target
    process = process_at(task, None if place[2] is None else int(place[2]))
    rest = target[place.end() :]
    whose = task.process if process is None or place[2] is None else process
    return b"/proc/%d" % whose.pid + rest
