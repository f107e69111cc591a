"""User memory as the guest kernel reaches it: copy in, copy out, and views for I/O without a copy.

Models copy_from_user and copy_to_user: the access has user rights, a page that is not there is faulted in,
and what cannot be accessed is EFAULT, here :class:`BadAddress`. A transfer that fails half-way has written
its first half, as in Linux. Addresses and lengths come from a hostile guest and are checked before anything
is touched.
"""

import errno
import struct
from collections.abc import Iterator
from typing import Protocol

from quire.arch import LOW32, WORD, Access
from quire.guest.kernel.machine import PageFault, ProcessMachine
from quire.guest.kernel.siginfo import SignalInfo
from quire.guest.mm.linux import ADDRESS_END, PAGE_4K

__all__ = ["BadAddress", "UserMemory"]

_OFFSET_MASK = PAGE_4K - 1
_MAX_IOVEC = 1024
#: A page may be refused once more after a fault was resolved: a write to it after it was mapped by a read.
_ATTEMPTS = 3


class FaultHandler(Protocol):
    """What resolves a page fault: the address space."""

    def fault(self, gva: int, error_code: int) -> SignalInfo | None:
        """Make the access possible and return None, or return the signal that refuses it."""
        ...


class BadAddress(Exception):
    """The guest may not access `gva` so: EFAULT. `signal` is what its own access would get."""

    def __init__(self, gva: int, signal: SignalInfo | None = None) -> None:
        super().__init__(f"user address {gva:#x} cannot be accessed: the system call returns EFAULT")
        self.gva, self.signal = gva, signal


class UserMemory:
    """The user memory of `space` on `machine`. Raises BadAddress for what the guest may not access."""

    def __init__(self, machine: ProcessMachine, space: FaultHandler) -> None:
        self._machine = machine
        self._space = space

    def views(self, gva: int, n: int, access: Access) -> Iterator[memoryview]:
        """Yield the bytes from `gva`, a page or less at a time, each present and accessible when it is
        yielded.

        They stay valid until the guest runs again or its memory map changes.
        """
        self._check(gva, n)
        end = gva + n
        while gva < end:
            length = min(end - gva, PAGE_4K - (gva & _OFFSET_MASK))
            yield self._view(gva, length, access)
            gva += length

    def read(self, gva: int, n: int) -> bytes:
        """Return `n` bytes at `gva`."""
        if n > 0 and (gva & _OFFSET_MASK) + n <= PAGE_4K:
            self._check(gva, n)
            return bytes(self._view(gva, n, Access.READ))
        return b"".join(self.views(gva, n, Access.READ))

    def read_up_to(self, gva: int, n: int) -> bytes:
        """Return up to `n` bytes at `gva`, as far as they can be read. Raises BadAddress when none can."""
        found = bytearray()
        try:
            for view in self.views(gva, n, Access.READ):
                found += view
        except BadAddress:
            if not found:
                raise
        return bytes(found)

    def write(self, gva: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `gva`."""
        done = 0
        for view in self.views(gva, len(data), Access.WRITE):
            view[:] = data[done : done + len(view)]
            done += len(view)

    def read_cstring(self, gva: int, limit: int = 4096) -> bytes:
        """Return the bytes up to a NUL; OSError(ENAMETOOLONG) if there is none within `limit` bytes."""
        found, left = bytearray(), limit
        while left > 0:
            length = min(left, PAGE_4K - (gva & _OFFSET_MASK))
            self._check(gva, 1)
            # Only as far as the page: a string may end just before memory that is not mapped.
            part = bytes(self._view(gva, length, Access.READ))
            end = part.find(b"\0")
            if end >= 0:
                return bytes(found + part[:end])
            found += part
            gva, left = gva + length, left - length
        raise OSError(errno.ENAMETOOLONG, f"the string at {gva - limit:#x} has no end within {limit} bytes")

    def read_u32(self, gva: int) -> int:
        """Return the unsigned 32-bit number at `gva`."""
        if gva & _OFFSET_MASK > PAGE_4K - 4:
            return int.from_bytes(self.read(gva, 4), "little")
        self._check(gva, 4)
        return int.from_bytes(self._view(gva, 4, Access.READ), "little")

    def read_i32(self, gva: int) -> int:
        """Return the signed 32-bit number at `gva`."""
        return int.from_bytes(self.read(gva, 4), "little", signed=True)

    def read_u64(self, gva: int) -> int:
        """Return the unsigned 64-bit number at `gva`."""
        return int.from_bytes(self.read(gva, 8), "little")

    def write_u32(self, gva: int, value: int) -> None:
        """Write `value` modulo 2**32 at `gva`."""
        self.write(gva, (value & LOW32).to_bytes(4, "little"))

    def write_u64(self, gva: int, value: int) -> None:
        """Write `value` modulo 2**64 at `gva`."""
        self.write(gva, (value & WORD).to_bytes(8, "little"))

    def read_iovec(self, gva: int, count: int) -> list[tuple[int, int]]:
        """Return the (base, length) pairs of a ``struct iovec`` array.

        Raises OSError(EINVAL) for more than 1024 of them.
        """
        if not 0 <= count <= _MAX_IOVEC:
            raise OSError(errno.EINVAL, f"{count} iovecs are too many: the limit is {_MAX_IOVEC}")
        words = struct.unpack(f"<{2 * count}Q", self.read(gva, 16 * count))
        return list(zip(words[::2], words[1::2], strict=True))

    def _view(self, gva: int, length: int, access: Access) -> memoryview:
        found = self._machine.user(gva, length, access)
        for _ in range(_ATTEMPTS):
            if not isinstance(found, PageFault):
                return found
            refused = self._space.fault(found.gva, found.error_code)
            if refused is not None:
                raise BadAddress(gva, refused)
            found = self._machine.user(gva, length, access)
        if isinstance(found, PageFault):
            raise BadAddress(gva)
        return found

    def _check(self, gva: int, n: int) -> None:
        if n < 0 or gva < 0 or gva + n > ADDRESS_END:
            raise BadAddress(gva)
