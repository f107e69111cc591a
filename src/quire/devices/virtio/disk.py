"""The file behind a disk: locked, read and written by byte, its changes kept in it or, by default, beside it.

Offsets and lengths are in bytes, within the file: who calls has checked them. Methods raise OSError as the host does.
"""

import ctypes
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from enum import Enum
from typing import Protocol

from quire.errors import BackendError
from quire.own_descriptors import move_high

__all__ = ["SECTOR", "Disk", "DiskMode", "open_disk"]

SECTOR = 512
#: Changes are kept beside the file in blocks of so many bytes.
_BLOCK = 4096
#: Bytes of zeros that are written at a time.
_ZEROS = bytes(1 << 20)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class DiskMode(Enum):
    """What becomes of what the guest writes."""

    TEMPORARY = "changes are dropped at the end"
    READ_ONLY = "read-only"
    WRITABLE = "changes go to the file"


class Disk(Protocol):
    """A disk's contents."""

    name: str
    mode: DiskMode
    sectors: int  #: of 512 bytes each

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes that are there."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Store `data`."""
        ...

    def erase(self, offset: int, length: int) -> None:
        """Have `length` bytes be zeros, and take no room where the host can do that."""
        ...

    def flush(self) -> None:
        """Return when everything written so far is where it stays."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def open_disk(name: str, mode: DiskMode) -> Disk:
    """Open and lock the file `name`: for this process alone if it is to be written, else with other readers.

    Raises BackendError with a line that says what is wrong with it.
    """
    writable = mode is DiskMode.WRITABLE
    try:
        fd = move_high(os.open(name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise BackendError(f"cannot open the disk {name}: {error.strerror}") from None
    try:
        _lock(fd, name, exclusive=writable)
        size = _size(fd, name)
        if mode is DiskMode.TEMPORARY:
            return _Overlay(fd, name, size)
        return _File(fd, name, size, mode)
    except BaseException:
        os.close(fd)
        raise


def _lock(fd: int, name: str, *, exclusive: bool) -> None:
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise BackendError(f"cannot lock the disk {name}: {error.strerror}") from None
        other = "has it" if exclusive else "may write it"
        raise BackendError(
            f"the disk {name} is locked: another guest or program {other}; end it first"
        ) from None


def _size(fd: int, name: str) -> int:
    """Return the size in bytes, at least one sector."""
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
        raise BackendError(f"the disk {name} is neither a file nor a block device: give one of these")
    size = os.lseek(fd, 0, os.SEEK_END)
    if size < SECTOR:
        raise BackendError(f"the disk {name} has {size} bytes: give one of a sector, {SECTOR} bytes, or more")
    return size


class _File:
    """The file itself."""

    def __init__(self, fd: int, name: str, size: int, mode: DiskMode) -> None:
        self._fd, self.name, self.mode = fd, name, mode
        self.sectors = size // SECTOR

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._fd, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        _write(self._fd, offset, data)

    def erase(self, offset: int, length: int) -> None:
        if _fallocate(self._fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length):
            for at in range(offset, offset + length, len(_ZEROS)):
                _write(self._fd, at, _ZEROS[: offset + length - at])

    def flush(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class _Overlay:
    """The file as it was, under changes in a temporary file that has no name: sparse, and gone with this process."""

    mode = DiskMode.TEMPORARY

    def __init__(self, fd: int, name: str, size: int) -> None:
        self.name, self.sectors = name, size // SECTOR
        self._base = _File(fd, name, size, self.mode)
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            self._changes = _File(move_high(os.dup(file.fileno())), name, size, self.mode)
        self._changed: set[int] = set()  # numbers of blocks that are in it

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(
            (self._changes if block in self._changed else self._base).read(at, count)
            for block, at, count in _blocks(offset, length)
        )

    def write(self, offset: int, data: bytes) -> None:
        size = self.sectors * SECTOR
        for block, at, count in _blocks(offset, len(data)):
            start, part = block * _BLOCK, data[at - offset : at - offset + count]
            if block not in self._changed and count < _BLOCK:
                whole = bytearray(self._base.read(start, min(_BLOCK, size - start)))
                whole[at - start : at - start + count] = part
                self._changes.write(start, bytes(whole))
            else:
                self._changes.write(at, part)
            self._changed.add(block)

    def erase(self, offset: int, length: int) -> None:
        for block, at, count in _blocks(offset, length):
            if count < _BLOCK:
                self.write(at, _ZEROS[:count])
            self._changed.add(block)
        self._changes.erase(offset, length)

    def flush(self) -> None:
        """Nothing stays."""

    def close(self) -> None:
        self._base.close()
        self._changes.close()


def _blocks(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, offset and length of the pieces of a range that cross no block."""
    end = offset + length
    while offset < end:
        count = min(end - offset, _BLOCK - offset % _BLOCK)
        yield offset // _BLOCK, offset, count
        offset += count


def _read(fd: int, offset: int, length: int) -> bytes:
    """Return `length` bytes; a file that somebody has made shorter reads as an error."""
    parts = []
    while length:
        part = os.pread(fd, length, offset)
        if not part:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def _write(fd: int, offset: int, data: bytes) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        offset, data = offset + count, data[count:]
