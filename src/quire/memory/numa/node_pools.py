"""The pools of a machine with several nodes: one pool a node, and frames from the nodes that the caller prefers.

Each node is a range of host-physical memory, so a frame's number says its node. Same calls as one :class:`Pool`, with
`nodes` beside: the nodes to try, in order. Fails as a pool does; OutOfFrames when none of the nodes has a block.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.memory.contents import Fill
from quire.memory.exhaustion import OutOfFrames
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.numa.topology import NODE_GRAIN, Topology
from quire.memory.owner import Owner, OwnerKind
from quire.memory.pool import Pool
from quire.memory.statistics import PoolStatistics

__all__ = ["NodePools"]

_GRAIN_SHIFT = NODE_GRAIN.bit_length() - 1 - FRAME_SHIFT


class NodePools:
    """The frames of `host`, which has the memory of every node of `topology` in order. MisuseError if it has not."""

    def __init__(self, topology: Topology, host: HostMemory) -> None:
        if host.size != topology.size:
            raise MisuseError(
                f"Nodes of {topology.size:#x} bytes are not host memory of {host.size:#x}: make both the same"
            )
        self.topology = topology
        self.frame_count = host.frame_count
        self.pools = [
            Pool(topology.start(node) >> FRAME_SHIFT, size >> FRAME_SHIFT, host)
            for node, size in enumerate(topology.sizes)
        ]
        self.fell_back = 0  #: allocations that the node named first could not serve
        #: The node of each 2 MiB of host memory: what compiled code counts references by.
        self.node_table: npt.NDArray[np.uint8] = np.repeat(
            np.arange(topology.count, dtype=np.uint8), [size // NODE_GRAIN for size in topology.sizes]
        )
        self._every = tuple(range(topology.count))

    def allocate(
        self, order: int, owner: Owner, fill: Fill = Fill.POISON, nodes: Sequence[int] | None = None
    ) -> int:
        """Give `owner` a block from the first of `nodes` (None: every node, by number) that has one."""
        tried: OutOfFrames | None = None
        for node in self._every if nodes is None else nodes:
            try:
                hfn = self.pools[node].allocate(order, owner, fill)
            except OutOfFrames as error:
                tried = tried or error
                continue
            self.fell_back += tried is not None
            return hfn
        if tried is None:
            raise MisuseError(f"No node was named for a block of {owner}: name at least one")
        raise tried

    def node_of(self, hfn: int) -> int:
        """Return the node of frame `hfn`. MisuseError outside all nodes."""
        hfn = operator.index(hfn)
        if not 0 <= hfn < self.frame_count:
            raise MisuseError(f"frame {hfn:#x} is on no node: the last frame is {self.frame_count - 1:#x}")
        return int(self.node_table[hfn >> _GRAIN_SHIFT])

    def free(self, hfn: int, order: int, owner: Owner) -> None:
        """Take back a block; see :meth:`Pool.free`."""
        self.pools[self.node_of(hfn)].free(hfn, order, owner)

    def divide(self, hfn: int, order: int, owner: Owner) -> None:
        """Turn a block into single frames; see :meth:`Pool.divide`."""
        self.pools[self.node_of(hfn)].divide(hfn, order, owner)

    def owner_of(self, hfn: int) -> Owner:
        """Return the owner of one frame."""
        return self.pools[self.node_of(hfn)].owner_of(hfn)

    def frames_of(self, owner_kind: OwnerKind) -> int:
        """Return how many frames of all nodes have owners of this kind."""
        return sum(pool.frames_of(owner_kind) for pool in self.pools)

    def frames_held(self, owner_kind: OwnerKind) -> npt.NDArray[np.uint64]:
        """Return the numbers of the frames of all nodes that have owners of this kind, lowest first."""
        return np.concatenate([pool.frames_held(owner_kind) for pool in self.pools])

    def audit(self) -> None:
        """Prove that every pool is consistent; InternalError otherwise."""
        for pool in self.pools:
            pool.audit()

    def statistics(self) -> PoolStatistics:
        """Return the counts of all nodes together; the peak is the sum of theirs."""
        return PoolStatistics.sum([pool.statistics() for pool in self.pools])
