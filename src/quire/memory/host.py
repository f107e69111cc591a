"""Host-physical memory: one sparse memfd mapping, seen as 64-bit words, as frames and as octets.

Models: the physical memory of the host. A host-physical address (hpa) is a byte offset in the mapping, a host
frame number (hfn) is ``hpa >> FRAME_SHIFT``. Memory never touched, or discarded, is a hole: it costs nothing
and reads as zero. Does not model: memory types, caches, NUMA, who owns a frame (``pool`` does).

Fails: an argument outside the memory is a MisuseError; a refusal by the kernel is a BackendError. Reading a
hole through the mapping makes the kernel give it a (zero) page: cheap to correct with ``discard``, never
wrong.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from operator import index
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from quire import failpoints
from quire.errors import BackendError, MisuseError
from quire.memory.records import MAP_NORESERVE
from quire.own_descriptors import move_high

FRAME_SHIFT: Final = 12
FRAME_SIZE: Final = 1 << FRAME_SHIFT
WORDS_PER_FRAME: Final = FRAME_SIZE // 8
MAX_SIZE: Final = 1 << 52  # no x86-64 processor has more than 52 physical address bits

_WORD_END: Final = 1 << 64
_OFFSET_MASK: Final = FRAME_SIZE - 1
_SEEK_HOLE: Final = os.SEEK_HOLE
_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_SCAN_FRAMES: Final = 512  # find_data looks at 2 MiB at a time: bounded temporary memory

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int
_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_mmap.restype = ctypes.c_size_t
_MAP_FIXED = 0x10


class HostMemory:
    """One memfd of ``size`` bytes, mapped shared and without reservation: KVM, Unicorn, NumPy all see it.

    ``address`` is the host virtual address of hpa 0. ``words`` (uint64), ``frames`` (frame_count x 512
    uint64) and ``octets`` (uint8) are views of the same bytes: whoever indexes them checks the index. Size:
    bytes, a positive multiple of 0x1000, else MisuseError; a kernel that cannot map so much gives a
    BackendError.
    """

    fd: int
    address: int
    words: npt.NDArray[np.uint64]
    frames: npt.NDArray[np.uint64]
    octets: npt.NDArray[np.uint8]

    def __init__(self, size: int, name: str = "quire") -> None:
        size = index(size)
        if size <= 0 or size & _OFFSET_MASK or size > MAX_SIZE:
            raise MisuseError(
                f"host memory cannot have {size:#x} bytes: "
                f"give a positive multiple of {FRAME_SIZE:#x} up to {MAX_SIZE:#x} (52 address bits)"
            )
        self.size = size
        self.frame_count = size >> FRAME_SHIFT
        self.name = name
        self.fd, self._mapping = _map(size, name)
        self.words = np.frombuffer(self._mapping, dtype=np.uint64)
        self.frames = self.words.reshape(self.frame_count, WORDS_PER_FRAME)
        self.octets = self.words.view(np.uint8)
        self.address = int(self.words.ctypes.data)
        # A memoryview gives Python ints, twice as fast as a NumPy scalar: load and store use it.
        self._cells = memoryview(self._mapping).cast("Q")
        self._end = size  # becomes -1 when closed, so that every range check fails

    def read(self, hpa: int, length: int) -> bytes:
        """Return ``length`` bytes from ``hpa``. MisuseError unless the whole range is inside the memory."""
        hpa, length = index(hpa), index(length)
        if hpa < 0 or length < 0 or hpa + length > self._end:
            raise self._outside(hpa, length)
        return self._mapping[hpa : hpa + length]

    def write(self, hpa: int, data: bytes | bytearray | memoryview) -> None:
        """Write ``data`` at ``hpa``. MisuseError unless it fits; then nothing was written."""
        hpa, length = index(hpa), memoryview(data).nbytes
        if hpa < 0 or hpa + length > self._end:
            raise self._outside(hpa, length)
        self._mapping[hpa : hpa + length] = data

    def load(self, hpa: int) -> int:
        """Return the little-endian 64-bit word at ``hpa``. MisuseError unless aligned to 8 and inside."""
        if hpa < 0 or hpa & 7 or hpa >= self._end:
            raise self._bad_word(hpa)
        return self._cells[hpa >> 3]

    def store(self, hpa: int, value: int) -> None:
        """Store the 64-bit ``value`` at ``hpa`` in one move. MisuseError as for load, or if too wide."""
        if hpa < 0 or hpa & 7 or hpa >= self._end:
            raise self._bad_word(hpa)
        if not 0 <= value < _WORD_END:
            raise MisuseError(
                f"cannot store {value:#x} at hpa {hpa:#x}: a word holds 0x0 to {_WORD_END - 1:#x}"
            )
        self._cells[hpa >> 3] = value

    def cells(self, hpa: int, length: int) -> memoryview:
        """Return the 64-bit words of a range as a view that yields Python integers: for who reads them often.

        MisuseError unless the range is inside and both ends are multiples of 8.
        """
        hpa, length = index(hpa), index(length)
        if hpa < 0 or length < 0 or hpa + length > self._end:
            raise self._outside(hpa, length)
        if (hpa | length) & 7:
            raise self._bad_word(hpa | length & 7)
        return self._cells[hpa >> 3 : hpa + length >> 3]

    def fill(self, hfn: int, count: int, byte: int) -> None:
        """Set every byte of ``count`` frames from ``hfn`` to ``byte`` (0 to 0xff); the frames become
        resident.

        MisuseError when a frame is outside the memory. To zero many frames at no cost use ``discard``.
        """
        start, end = self._frame_range(hfn, count)
        if not 0 <= byte <= 0xFF:
            raise MisuseError(f"cannot fill with {byte:#x}: a byte holds 0x0 to 0xff")
        self.octets[start:end] = byte

    def discard(self, hfn: int, count: int) -> None:
        """Return ``count`` frames from ``hfn`` to the kernel: they become a hole and read as zero.

        MisuseError when a frame is outside the memory; BackendError when the kernel refuses.
        """
        start, end = self._frame_range(hfn, count)
        if start == end:  # fallocate calls an empty range an error
            return
        if failpoints.armed is not None:
            failpoints.reach("discard", lambda: _no_discard(start, end, errno.ENOMEM))
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        while _fallocate(self.fd, mode, start, end - start) != 0:
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise _no_discard(start, end, code)

    def is_hole(self, hfn: int, count: int) -> bool:
        """True when no page backs any of ``count`` frames from ``hfn``: never touched since start or discard.

        False does not mean that something was written: reading makes a zero page (``find_data`` tells them
        apart). MisuseError when a frame is outside the memory.
        """
        if count == 1 and 0 <= hfn < self._end >> FRAME_SHIFT:
            # The next hole begins here: that is found at once, where the search for data may go far.
            start = index(hfn) << FRAME_SHIFT
            return os.lseek(self.fd, start, _SEEK_HOLE) == start
        start, end = self._frame_range(hfn, count)
        return start == end or self._seek(start, os.SEEK_DATA) >= end

    def find_data(self, hfn: int, count: int) -> int | None:
        """Return the hpa of the first non-zero word in ``count`` frames from ``hfn``, or None. Holes are
        skipped.

        Touches only resident pages, so it costs what the range holds. MisuseError when a frame is outside.
        """
        start, end = self._frame_range(hfn, count)
        while start < end:
            start = self._seek(start, os.SEEK_DATA)
            if start >= end:
                break
            stop = min(self._seek(start, os.SEEK_HOLE), end, start + _SCAN_FRAMES * FRAME_SIZE)
            nonzero = np.flatnonzero(self.words[start >> 3 : stop >> 3])
            if nonzero.size:
                return start + int(nonzero[0]) * 8
            start = stop
        return None

    def resident_bytes(self) -> int:
        """Return the bytes of real memory that the kernel holds for this host: what it costs now."""
        self._frame_range(0, 0)
        return os.fstat(self.fd).st_blocks * 512

    def close(self) -> None:
        """Close the descriptor and give up the mapping; may be repeated. Later calls are a MisuseError.

        The three arrays become empty. A view that someone else still holds (a slice of ``words``, a kernel's
        argument) stays valid: Python refuses to unmap under it (BufferError), so the mapping and its memory
        then live until the last such view is gone. ``address`` becomes 0; pointers made from it are not
        protected.
        """
        if self._end < 0:
            return
        self._end = -1
        self.address = 0
        self.words = np.empty(0, dtype=np.uint64)
        self.frames = self.words.reshape(0, WORDS_PER_FRAME)
        self.octets = self.words.view(np.uint8)
        self._cells.release()
        try:
            self._mapping.close()
        except BufferError:
            # The holders of views keep the mapping alive; without our reference the last one of them ends it.
            del self._mapping
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_end", -1) >= 0:  # construction may have failed before there was anything to close
            self.close()

    def __repr__(self) -> str:
        return f"HostMemory({self.size:#x}, {self.name!r})"

    # A range of frames as checked byte offsets; the numbers may come from a guest, so they are not trusted.
    def _frame_range(self, hfn: int, count: int) -> tuple[int, int]:
        start, length = index(hfn) << FRAME_SHIFT, index(count) << FRAME_SHIFT
        if start < 0 or length < 0 or start + length > self._end:
            raise self._outside(start, length)
        return start, start + length

    # lseek for SEEK_DATA and SEEK_HOLE; the kernel's "nothing after this offset" (ENXIO) becomes the size.
    def _seek(self, offset: int, whence: int) -> int:
        try:
            return os.lseek(self.fd, offset, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self.size
            raise BackendError(
                error.errno,
                f"cannot ask for holes at hpa {offset:#x}: {os.strerror(error.errno or 0)}; "
                "check that the kernel's tmpfs supports SEEK_DATA",
            ) from error

    def _outside(self, hpa: int, length: int) -> MisuseError:
        if self._end < 0:
            return MisuseError(f"host memory {self.name!r} is closed: use it before close() or make another")
        return MisuseError(
            f"hpa {hpa:#x} with length {length:#x} is outside host memory of size {self.size:#x}: "
            "check the address against the size first"
        )

    def _bad_word(self, hpa: int) -> MisuseError:
        if 0 <= hpa < self._end:
            return MisuseError(
                f"hpa {hpa:#x} is not a multiple of 0x8: load and store take whole aligned words"
            )
        return self._outside(hpa, 8)


# Guests of the process kind share this process's descriptors: theirs must be numbered as in a native run.
def _moved(fd: int) -> int:
    try:
        return move_high(fd, close=False)
    except BackendError:  # the limit of descriptors is too low for any guest of that kind
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    finally:
        os.close(fd)


def _no_discard(start: int, end: int, code: int) -> BackendError:
    return BackendError(
        code,
        f"cannot discard {end - start:#x} bytes at hpa {start:#x}: {os.strerror(code)}; "
        "check that the kernel's tmpfs supports FALLOC_FL_PUNCH_HOLE",
    )


def _no_memory(size: int, code: int) -> BackendError:
    return BackendError(
        code,
        f"cannot map {size:#x} bytes of host memory: {os.strerror(code)}; "
        "ask for less, or raise the limits shown by 'ulimit -v' and 'ulimit -n'",
    )


# Make and map the memfd; on failure leave nothing open.
def _map(size: int, name: str) -> tuple[int, mmap.mmap]:
    if "\0" in name or len(os.fsencode(name)) > 249:
        raise MisuseError(f"{name!r} cannot name a memfd: give at most 0xf9 bytes without NUL")
    if failpoints.armed is not None:
        failpoints.reach("map host memory", lambda: _no_memory(size, errno.ENOMEM))
    fd = -1
    try:
        fd = _moved(os.memfd_create(name, os.MFD_CLOEXEC))
        os.ftruncate(fd, size)
        # mmap.mmap(fd) would keep a duplicate of fd under the lowest free number: the guest's 3, or its closed
        # stdout. So the range is reserved without a descriptor, and the memfd mapped over it.
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | MAP_NORESERVE)
        at = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        flags = mmap.MAP_SHARED | MAP_NORESERVE | _MAP_FIXED
        if _mmap(at, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0) != at:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return fd, mapping
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise _no_memory(size, error.errno or 0) from error
