"""Memory of the host that a guest has outside its own frames: memory files and pipes.

It is counted against the guest's memory: frames of the guest's are set aside for it, which nobody touches, so that both
together are never more than the guest was given.
"""

from collections.abc import Mapping

from quire.guest.kernel.machine import ProcessMachine
from quire.guest.mm.linux import PAGE_2M, PAGE_4K

__all__ = ["HostMemory"]

#: What a memory file or a pipe is known by: device and inode.
Identity = tuple[int, int]
#: What no file has.
_OWN: Identity = (-1, 0)


class HostMemory:
    """What a guest on `machine` holds of the host, by what holds it. Sizes are in bytes."""

    def __init__(self, machine: ProcessMachine) -> None:
        self._machine = machine
        self._sizes: dict[Identity, int] = {}
        self._aside: list[tuple[int, int]] = []  # gpa and size of each frame set aside
        self._bytes = 0

    def size_of(self, identity: Identity) -> int:
        """Return what is counted for one of them."""
        return self._sizes.get(identity, 0)

    def count(self, identity: Identity, size: int) -> bool:
        """Count `size` bytes for one of them from now on; False when the guest's memory has no room for it."""
        wanted = sum(self._sizes.values()) - self.size_of(identity) + size
        if not self._set_aside(wanted):
            return False
        self._sizes[identity] = size
        return True

    def count_own(self, size: int) -> bool:
        """Count `size` bytes for what the kernel itself keeps for the guest; return as :meth:`count` does."""
        return self.count(_OWN, size)

    def count_only(self, sizes: Mapping[Identity, int]) -> bool:
        """Count what is there and forget what went; return whether that gave memory back."""
        before = self._bytes
        own = self.size_of(_OWN)
        self._sizes = {identity: sizes[identity] for identity in self._sizes if identity in sizes}
        if own:
            self._sizes[_OWN] = own
        self._set_aside(sum(self._sizes.values()))
        return self._bytes < before

    def _set_aside(self, wanted: int) -> bool:
        """Have frames set aside for `wanted` bytes; False, and nothing more than before, when there are too few."""
        while self._aside and self._bytes - self._aside[-1][1] >= wanted:
            gpa, size = self._aside.pop()
            self._machine.free(gpa, size)
            self._bytes -= size
        start = len(self._aside)
        while self._bytes < wanted:
            size = PAGE_2M if wanted - self._bytes >= PAGE_2M else PAGE_4K
            found = self._machine.allocate(size)
            if found is None and size == PAGE_2M:
                found = self._machine.allocate(size := PAGE_4K)
            if found is None:
                for gpa, taken in self._aside[start:]:
                    self._machine.free(gpa, taken)
                    self._bytes -= taken
                del self._aside[start:]
                return False
            self._aside.append((found, size))
            self._bytes += size
        return True
