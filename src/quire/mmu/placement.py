"""Where the frames of one guest come from: its policies, applied to every allocation from the host's pool."""

from collections.abc import Sequence

from quire.errors import MisuseError
from quire.memory import Fill, Owner
from quire.memory.numa import NodePools, Policy
from quire.mmu.host import Host
from quire.mmu.numa_config import NumaConfig

__all__ = ["Placement"]


class Placement:
    """The frames of the guest that `numa` says; without it, frames of a pool that has no nodes.

    `toucher` is the node of the vCPU for which memory is wanted now. Raises MisuseError when the host has other nodes.
    """

    def __init__(self, host: Host, numa: NumaConfig | None) -> None:
        self.pool = host.pool
        self.numa = numa
        self.home = self.toucher = 0 if numa is None else numa.vcpu_node
        self._nodes: NodePools | None = host.pool if isinstance(host.pool, NodePools) else None
        self._tables = 0  # how many were asked for: they have no page number to interleave by
        if numa is not None and (self._nodes is None or self._nodes.topology != numa.topology):
            raise MisuseError(
                "The guest wants other nodes than its host has: make both with the same topology"
            )

    @property
    def node_pools(self) -> NodePools | None:
        """The pools by node, None on a host without."""
        return self._nodes

    def page(self, order: int, owner: Owner, fill: Fill, number: int, *, table: bool = False) -> int:
        """Return the first frame of a block for the guest page of this number; `table`: for a table of the guest's."""
        numa, pools = self.numa, self._nodes
        if pools is None:
            return self.pool.allocate(order, owner, fill)
        if numa is None:
            return pools.allocate(order, owner, fill)
        policy = numa.guest_tables if table and numa.guest_tables is not None else numa.policy
        return pools.allocate(order, owner, fill, self._order(policy, number))

    def table(self, owner: Owner) -> int:
        """Return a zeroed frame for a table of the hypervisor's."""
        numa, pools = self.numa, self._nodes
        if pools is None:
            return self.pool.allocate(0, owner, Fill.ZERO)
        if numa is None:
            return pools.allocate(0, owner, Fill.ZERO)
        self._tables += 1
        return pools.allocate(0, owner, Fill.ZERO, self._order(numa.host_tables, self._tables - 1))

    def _order(self, policy: Policy, number: int) -> Sequence[int]:
        assert self.numa is not None
        return policy.order(self.numa.topology, number, home=self.home, toucher=self.toucher)
