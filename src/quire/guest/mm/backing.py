"""What lies behind a mapping that is not private anonymous memory: a host file, or memory shared by name.

Models the kernel's hold on a file: a descriptor of its own, high up where the guest's numbers do not reach,
which lives as long as a mapping refers to it, whatever the guest closes. Mappings of one file with the same
access share one. Does not model pages; :mod:`quire.guest.mm.shared_pages` does. Errors are negative errno
values.
"""

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from quire.own_descriptors import move_high

__all__ = [
    "Backing",
    "FileBacking",
    "FileRegistry",
    "Key",
    "ReadOnlyMemory",
    "SharedAnonymous",
    "SharedMemory",
    "Version",
    "identity_of",
    "version_of",
]

_F_SEAL_FUTURE_WRITE = 0x10
_PUNCH_HOLE_KEEP_SIZE = 3
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_DEV_ZERO = os.makedev(1, 5)

Key = tuple[int, int]
#: What changes when the contents of a file do: its size, and when it and its inode were changed.
Version = tuple[int, int, int]


def _is_sealed(fd: int) -> bool:
    """Whether a memory file may no longer be written."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & (fcntl.F_SEAL_WRITE | _F_SEAL_FUTURE_WRITE))
    except OSError:
        return False  # of another kind


def identity_of(descriptor: int) -> Key | None:
    """Return device and inode of what a descriptor names, None when it is not open."""
    try:
        status = os.fstat(descriptor)
    except (OSError, OverflowError, ValueError):
        return None
    return status.st_dev, status.st_ino


def version_of(status: os.stat_result) -> Version:
    """Return which contents of a file `status` tells of."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(slots=True, eq=False)
class Backing:
    """Something that mappings refer to: `references` of them. `key` names its pages."""

    key: Key
    name: bytes
    references: int = 0

    @property
    def writable(self) -> bool:
        """Whether a shared mapping of it may be written."""
        return True


class SharedAnonymous(Backing):
    """Memory that two mappings share though no file is behind it; it dies with the last of them."""


class SharedMemory(Backing):
    """Memory that the kernel keeps for whoever attaches it, until it is removed and nobody maps it."""

    def read_only(self) -> "ReadOnlyMemory":
        """Return the same memory for mappings that may never be written."""
        return ReadOnlyMemory(self)


class ReadOnlyMemory(Backing):
    """Shared memory behind mappings that may only read it: their references are the memory's."""

    def __init__(self, memory: SharedMemory) -> None:
        self.memory = memory
        self.key, self.name = memory.key, memory.name

    @property
    def references(self) -> int:
        """How many areas map the memory, either way."""
        return self.memory.references

    @references.setter
    def references(self, value: int) -> None:
        self.memory.references = value

    @property
    def writable(self) -> bool:
        return False


@dataclass(slots=True, eq=False)
class FileBacking(Backing):
    """A host file, by the kernel's own descriptor. `key` is (st_dev, st_ino)."""

    fd: int = -1
    read_write: bool = False

    @property
    def writable(self) -> bool:
        return self.read_write

    def version(self) -> Version:
        """Return what the file is now; that of no file when the host cannot say."""
        try:
            return version_of(os.fstat(self.fd))
        except OSError:
            return 0, 0, 0

    def read_page(self, offset: int, view: memoryview) -> int:
        """Read into `view` from `offset`; return the bytes read, 0 beyond the end, or a negative errno."""
        try:
            return os.preadv(self.fd, [view], offset)
        except OSError as error:
            return -(error.errno or errno.EIO)

    def write_pages(self, offset: int, views: list[memoryview]) -> int:
        """Write `views` from `offset` on without making the file longer; return 0 or a negative errno."""
        try:
            descriptor, size = self._to_write()
            try:
                views = _first_bytes(views, size - offset)
                while views:
                    done = os.pwritev(descriptor, views, offset)
                    views, offset = _after(views, done), offset + done
            finally:
                if descriptor != self.fd:
                    os.close(descriptor)
        except OSError as error:
            return -(error.errno or errno.EIO)
        return 0

    def _to_write(self) -> tuple[int, int]:
        """Return a descriptor of the file and its size.

        The process whose descriptor :attr:`fd` was may have gone, and another be at its number here: then by name.
        """
        descriptor = self.fd
        if identity_of(descriptor) != self.key:
            descriptor = move_high(os.open(self.name, os.O_RDWR | os.O_CLOEXEC))
            if identity_of(descriptor) != self.key:
                os.close(descriptor)
                raise OSError(errno.EIO, "the file has gone")
        return descriptor, os.fstat(descriptor).st_size

    def punch(self, offset: int, length: int) -> int:
        """Make a hole of a range of the file; return 0 or a negative errno."""
        return -ctypes.get_errno() if _fallocate(self.fd, _PUNCH_HOLE_KEEP_SIZE, offset, length) else 0


def _first_bytes(views: list[memoryview], size: int) -> list[memoryview]:
    kept = []
    for view in views:
        if size <= 0:
            break
        kept.append(view[:size])
        size -= len(kept[-1])
    return kept


def _after(views: list[memoryview], done: int) -> list[memoryview]:
    """Return what is left of `views` after their first `done` bytes."""
    rest = []
    for view in views:
        passed = min(done, len(view))
        done -= passed
        if passed < len(view):
            rest.append(view[passed:])
    return rest


@dataclass(slots=True)
class FileRegistry:
    """The files that mappings refer to, one per file and kind of access."""

    new_memory: Callable[[], int]  #: returns a number for shared memory that no other has
    _files: dict[tuple[int, int, bool], FileBacking] = field(default_factory=dict)

    def open(self, fd: int, *, shared: bool, write: bool) -> FileBacking | int | None:
        """Return the file behind host descriptor `fd` for a mapping, unreferenced if it is new.

        None means /dev/zero: the mapping is anonymous. A negative errno: EBADF, ENODEV (not a file that can
        be mapped), EACCES (the descriptor's access does not allow it), ENFILE (no descriptor is left).
        """
        try:
            status, mode = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
        except (OSError, OverflowError, ValueError):
            return -errno.EBADF
        if mode & os.O_PATH:
            return -errno.EBADF
        if mode & os.O_ACCMODE == os.O_WRONLY:
            return -errno.EACCES
        read_write = mode & os.O_ACCMODE == os.O_RDWR
        if shared and write and not read_write:
            return -errno.EACCES
        if shared and write and _is_sealed(fd):
            return -errno.EPERM
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_ZERO:
            return None
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISBLK(status.st_mode):
            return -errno.ENODEV
        known = self._files.get((status.st_dev, status.st_ino, read_write))
        if known is not None:
            return known
        try:
            return self._open(fd, status, read_write, bool(mode & os.O_APPEND))
        except OSError as error:
            return -(errno.ENFILE if error.errno == errno.EMFILE else error.errno or errno.EIO)

    def shared_anonymous(self) -> SharedAnonymous:
        """Return new shared memory, unreferenced."""
        return SharedAnonymous((-1, self.new_memory()), b"/dev/zero (deleted)")

    def shared_memory(self, name: bytes) -> SharedMemory:
        """Return new shared memory that the kernel keeps: one reference is its own."""
        return SharedMemory((-1, self.new_memory()), name, 1)

    def fork(self) -> tuple["FileRegistry", dict[FileBacking, FileBacking]]:
        """Return a copy for a process whose descriptors are copies of these, and which file stands for which in it."""
        copy = FileRegistry(self.new_memory)
        pairs = {one: replace(one, references=0) for one in self._files.values()}
        copy._files = {key: pairs[one] for key, one in self._files.items()}
        return copy, pairs

    def close_copies(self) -> None:
        """Close what this process has copies of, and another, whose memory it borrowed, goes on with."""
        for number in self.numbers():
            os.close(number)

    def numbers(self) -> set[int]:
        """Return the kernel's descriptors of the files that are the caller's too."""
        return {one.fd for one in self._files.values() if identity_of(one.fd) == one.key}

    def separate(self) -> None:
        """Have descriptors of its own where it has the numbers of another's. Raises OSError, and has none then."""
        made: list[int] = []
        try:
            for backing in self._files.values():
                made.append(move_high(backing.fd, close=False))
        except OSError:
            for number in made:
                os.close(number)
            raise
        for backing, number in zip(self._files.values(), made, strict=True):
            backing.fd = number

    def forget(self) -> None:
        """Close nothing when references go: the descriptors are another's."""
        for backing in self._files.values():
            backing.references += 1

    def close(self) -> None:
        """Close every descriptor at once; the backings cannot be read any more."""
        for backing in self._files.values():
            os.close(backing.fd)
        self._files.clear()

    def release(self, backing: Backing) -> bool:
        """Take one reference away; close what has none left and return True then."""
        backing.references -= 1
        if backing.references > 0:
            return False
        if isinstance(backing, FileBacking):
            self._files.pop((*backing.key, backing.read_write), None)
            os.close(backing.fd)
        return True

    def _open(self, fd: int, status: os.stat_result, read_write: bool, append: bool) -> FileBacking:
        if append:
            # pwrite() to a descriptor with O_APPEND ignores its offset on Linux: open the file afresh.
            fresh = os.open(
                f"/proc/thread-self/fd/{fd}", (os.O_RDWR if read_write else os.O_RDONLY) | os.O_CLOEXEC
            )
            try:
                own = move_high(fresh, close=False)
            finally:
                os.close(fresh)
        else:
            own = move_high(fd, close=False)
        try:
            name = os.readlink(os.fsencode(f"/proc/thread-self/fd/{own}"))
        except OSError:
            name = b""
        made = FileBacking((status.st_dev, status.st_ino), name, 0, own, read_write)
        self._files[(status.st_dev, status.st_ino, read_write)] = made
        return made
