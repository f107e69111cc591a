"""A host: host-physical memory and the pool of its frames. Several guests may share one."""

from dataclasses import dataclass
from typing import Self

from quire.memory import HostMemory, Pool

__all__ = ["Host"]

_SLACK = 64 << 20  # tables, VMCSs and what a guest of any size needs besides its memory


@dataclass(frozen=True, slots=True)
class Host:
    """Memory and pool; sparse, so that size costs nothing until it is touched."""

    memory: HostMemory
    pool: Pool

    @classmethod
    def for_guest(cls, guest_bytes: int, page_size: int) -> Self:
        """Return a host large enough for one guest of `guest_bytes` backed by pages of `page_size` bytes."""
        whole = -(-guest_bytes // page_size) * page_size
        size = whole + (whole >> 6) + _SLACK
        memory = HostMemory(size & ~0xFFF)
        return cls(memory, Pool(0, memory.frame_count, memory))

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
