"""A host: host-physical memory and the pool of its frames. Several guests may share one."""

from dataclasses import dataclass
from typing import Self

from quire.arch import PAGE_SIZE
from quire.memory import HostMemory, Pool
from quire.memory.numa import NodePools, Topology
from quire.memory.numa.binding import bind_range, pages_by_node

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
        memory = HostMemory(size & -PAGE_SIZE)
        return cls(memory, Pool(0, memory.frame_count, memory))

    @classmethod
    def with_nodes(cls, topology: Topology) -> Self:
        """Return a host with these nodes. The machine's own are bound: the kernel takes their memory there.

        Raises BackendError when it refuses.
        """
        memory = HostMemory(topology.size)
        try:
            for node, number in enumerate(topology.numbers):
                bind_range(memory, topology.start(node), topology.sizes[node], number)
            return cls(memory, NodePools(topology, memory))
        except BaseException:
            memory.close()
            raise

    def misplaced(self) -> int:
        """Return how many resident pages are not on the node that they are bound to: 0 where nodes are declared."""
        if not isinstance(self.pool, NodePools):
            return 0
        topology, wrong = self.pool.topology, 0
        for node, number in enumerate(topology.numbers):
            found = pages_by_node(self.memory, topology.start(node), topology.sizes[node])
            wrong += sum(found.values()) - found.get(number, 0)
        return wrong

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
