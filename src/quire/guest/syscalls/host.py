"""The host's own system calls, raw: the number, six machine words in, a result or -errno out.

Python's wrappers are not used where a call may block: they retry after EINTR (PEP 475), and a guest has to
see the interruption. Structures need no translation, since the host is x86-64 Linux as well.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

import numpy as np

from quire.guest.mm.backing import identity_of

__all__ = [
    "RANDOM_DEVICES",
    "HostBuffer",
    "address_of",
    "call",
    "device_of",
    "identity_of",
    "is_nameless",
    "is_pipe",
    "is_regular",
    "is_terminal_or_null",
    "is_unshared",
    "pack_iovecs",
    "path_of",
]

#: /dev/random and /dev/urandom, which give a guest its seeded numbers.
RANDOM_DEVICES = frozenset(((1, 8), (1, 9)))
#: /dev/null, /dev/zero, /dev/full, /dev/tty.
_HARMLESS_DEVICES = frozenset(((1, 3), (1, 5), (1, 7), (5, 0)))

_raw = ctypes.CDLL(None, use_errno=True).syscall
_raw.argtypes = [ctypes.c_ulong] * 7
_raw.restype = ctypes.c_long


def call(number: int, *arguments: int) -> int:
    """Make one host system call and return its result, or the negative errno.

    Arguments are taken modulo 2^64, so signed numbers may be passed. The GIL is released meanwhile; Python's
    signal handlers run after the return.
    """
    a, b, c, d, e, f = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    result: int = _raw(number, a, b, c, d, e, f)
    return -ctypes.get_errno() if result == -1 else result


class HostBuffer:
    """Bytes at a fixed host address: what a pointer argument of the host's call names."""

    __slots__ = ("_buffer", "address", "size")

    def __init__(self, size: int, data: bytes = b"") -> None:
        self.size = size
        # One byte more: an empty array has no address of its own.
        self._buffer = ctypes.create_string_buffer(size + 1)
        self.address = ctypes.addressof(self._buffer)
        ctypes.memmove(self.address, data, min(len(data), size))

    def take(self, size: int | None = None) -> bytes:
        """Return the first `size` bytes, all of them by default; never more than there are."""
        wanted = self.size if size is None else min(size, self.size)
        return ctypes.string_at(self.address, wanted)


def address_of(view: memoryview) -> int:
    """Return the host address of the first byte of a contiguous view, read-only ones included."""
    pointer: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return pointer


def is_pipe(descriptor: int) -> bool:
    """Whether an open descriptor names a pipe."""
    return stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def is_regular(descriptor: int) -> bool:
    """Whether a descriptor names a file or a block device."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def is_nameless(descriptor: int) -> bool:
    """Whether a descriptor names an event channel, all of which share one identity: eventfd, epoll, timers, inotify."""
    return path_of(descriptor).startswith("anon_inode:")


def is_unshared(descriptor: int) -> bool:
    """Whether reading a descriptor's file takes nothing from others: it is no pipe, socket or device."""
    status = os.fstat(descriptor)
    if stat.S_ISCHR(status.st_mode) and device_of(status) in RANDOM_DEVICES:
        return True
    kind = stat.S_IFMT(status.st_mode)
    return kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) or is_terminal_or_null(descriptor)


def device_of(status: os.stat_result) -> tuple[int, int]:
    """Return the major and minor number of a device."""
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def is_terminal_or_null(descriptor: int) -> bool:
    """Whether a descriptor names the device /dev/null, /dev/zero, /dev/full or /dev/tty: harmless to write to."""
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and device_of(status) in _HARMLESS_DEVICES


def path_of(descriptor: int) -> str:
    """Return the kernel's own name of an open file, symbolic links resolved; empty when it is not open."""
    try:
        return os.readlink(f"/proc/thread-self/fd/{descriptor}")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBADF):
            raise
        return ""


def pack_iovecs(chunks: Sequence[tuple[int, int]]) -> HostBuffer:
    """Return an array of struct iovec for host (address, length) pairs."""
    words = [word for chunk in chunks for word in chunk]
    return HostBuffer(16 * len(chunks), np.array(words, np.uint64).tobytes())
