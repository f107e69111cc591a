"""A host: host-physical memory and the pool of its frames. Several guests may share one."""

from dataclasses import dataclass
from typing import Self

from quire.memory import HostMemory, Pool
from quire.memory.numa import NodePools, Topology

__all__ = ["Host"]

_SLACK = 64 << 20  # tables, VMCSs and what a guest of any size needs besides its memory


@dataclass(frozen=True, slots=True)
class Host:
    """Memory and pool; sparse, so that size costs nothing until it is touched."""

    memory: HostMemory
    pool: Pool | NodePools

    @classmethod
    def for_guest(cls, guest_bytes: int, page_size: int, topology: Topology | None = None) -> Self:
        """Return a host large enough for one guest of `guest_bytes` backed by pages of `page_size` bytes.

        With a topology it has those nodes, whatever the guest has.
        """
        if topology is not None:
            return cls.with_nodes(topology)
        whole = -(-guest_bytes // page_size) * page_size
        size = whole + (whole >> 6) + _SLACK
        memory = HostMemory(size & ~0xFFF)
        return cls(memory, Pool(0, memory.frame_count, memory))

    @classmethod
    def with_nodes(cls, topology: Topology) -> Self:
        """Return a host with these nodes."""
        memory = HostMemory(topology.size)
        return cls(memory, NodePools(topology, memory))

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
