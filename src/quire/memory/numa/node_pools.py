"""The pools of a machine with several nodes: one pool a node, and frames from the nodes that the caller prefers.

Each node is a range of host-physical memory, so a frame's number says its node. Same calls as one :class:`Pool`, with
`nodes` beside: the nodes to try, in order. Fails as a pool does; OutOfFrames when none of the nodes has a block. A
:class:`FrameCache` is one node's: make it with the pool of that node.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.memory.claim import Claim
from quire.memory.contents import Fill
from quire.memory.exhaustion import OutOfFrames
from quire.memory.host import FRAME_SHIFT, HostMemory
from quire.memory.layout import MAX_ORDER
from quire.memory.numa.claim import NodeClaim
from quire.memory.numa.topology import NODE_GRAIN, Topology
from quire.memory.owner import Owner, OwnerKind
from quire.memory.pool import Pool
from quire.memory.request import block_numbers, refused_request
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
        self,
        order: int,
        owner: Owner,
        fill: Fill = Fill.POISON,
        nodes: Sequence[int] | None = None,
        claim: NodeClaim | None = None,
    ) -> int:
        """Give `owner` a block from the first of `nodes` (None: every node, by number) that has one.

        `claim` is consumed on that node, as far as it has frames there.
        """
        tried: OutOfFrames | None = None
        for node in self._every if nodes is None else nodes:
            try:
                hfn = self.pools[node].allocate(order, owner, fill, _part(claim, node))
            except OutOfFrames as error:
                tried = tried or error
                continue
            self.fell_back += tried is not None
            return hfn
        if tried is None:
            raise _none_named(owner)
        raise tried

    def allocate_many(
        self,
        count: int,
        order: int,
        owner: Owner,
        fill: Fill = Fill.POISON,
        nodes: Sequence[int] | None = None,
        claim: NodeClaim | None = None,
    ) -> npt.NDArray[np.uint64]:
        """Give `owner` `count` blocks, those that as many calls of :meth:`allocate` would give, in that order.

        All or nothing: OutOfFrames when the nodes together have not so many. Whatever is raised, no frame and no claim
        has changed hands, but what was tried counts in the statistics.
        """
        count, order = operator.index(count), operator.index(order)
        if count < 0:
            raise MisuseError(f"cannot allocate {count} blocks: give a count of 0 or more")
        if owner.kind in (OwnerKind.FREE, OwnerKind.CACHED) or not 0 <= order <= MAX_ORDER:
            raise refused_request(order, owner)
        named = self._every if nodes is None else nodes
        shares = self._shares(count, order, owner, named, claim)
        parts = {node: _part(claim, node) for node in shares}
        before = {node: part.left for node, part in parts.items() if part is not None}
        taken: dict[int, npt.NDArray[np.uint64]] = {}
        try:
            for node, share in shares.items():
                taken[node] = self.pools[node].allocate_many(share, order, owner, fill, parts[node])
        except BaseException:
            for node, hfns in taken.items():
                self.pools[node].free_many(hfns, order, owner)
                part = parts[node]
                if part is not None:
                    part.left = before[node]
            raise
        self.fell_back += count - shares.get(named[0], 0)
        return np.concatenate([np.empty(0, np.uint64), *taken.values()])

    def claim(self, frames: int, owner: Owner, nodes: Sequence[int] | None = None) -> NodeClaim:
        """Set `frames` frames aside on `nodes` (None: every one), in their order as many as each has; see `Pool.claim`.

        All or nothing: OutOfFrames when the nodes together have fewer that are free and not claimed.
        """
        frames = operator.index(frames)
        if frames < 1:
            raise MisuseError(f"cannot claim {frames} frames: give at least 1")
        shares = self._shares(frames, 0, owner, self._every if nodes is None else nodes, None)
        with ExitStack() as undo:
            parts = {
                node: undo.enter_context(self.pools[node].claim(share, owner))
                for node, share in shares.items()
            }
            undo.pop_all()
        return NodeClaim(parts, owner)

    @property
    def frames_claimed(self) -> int:
        """Free frames of all nodes that open claims hold."""
        return sum(pool.frames_claimed for pool in self.pools)

    def node_of(self, hfn: int) -> int:
        """Return the node of frame `hfn`. MisuseError outside all nodes."""
        hfn = operator.index(hfn)
        if not 0 <= hfn < self.frame_count:
            raise MisuseError(f"frame {hfn:#x} is on no node: the last frame is {self.frame_count - 1:#x}")
        return int(self.node_table[hfn >> _GRAIN_SHIFT])

    def free(self, hfn: int, order: int, owner: Owner) -> None:
        """Take back a block; see :meth:`Pool.free`."""
        self.pools[self.node_of(hfn)].free(hfn, order, owner)

    def free_many(self, hfns: npt.ArrayLike, order: int, owner: Owner) -> None:
        """Take back blocks of any nodes, all or nothing; see :meth:`Pool.free_many`.

        MisuseError of the first that cannot be freed, on the first node that has one.
        """
        numbers = block_numbers(hfns)
        for hfn in numbers[numbers >= self.frame_count].tolist():
            self.node_of(hfn)  # which says that it is on none
        nodes = self.node_table[numbers >> np.uint64(_GRAIN_SHIFT)]
        by_node = {node: numbers[nodes == node] for node in np.unique(nodes).tolist()}
        for node, some in by_node.items():
            self.pools[node].check_batch(some, order, owner)
        for node, some in by_node.items():
            self.pools[node].free_many(some, order, owner)

    def divide(self, hfn: int, order: int, owner: Owner) -> None:
        """Turn a block into single frames; see :meth:`Pool.divide`."""
        self.pools[self.node_of(hfn)].divide(hfn, order, owner)

    def _shares(
        self, count: int, order: int, owner: Owner, nodes: Sequence[int], claim: NodeClaim | None
    ) -> dict[int, int]:
        """Return how many of `count` blocks each of `nodes` is to give, those that give none left out."""
        if not nodes:
            raise _none_named(owner)
        shares: dict[int, int] = {}
        left = count
        for node in dict.fromkeys(nodes):
            room = self.pools[node].room_for(left, order, _part(claim, node)) if left else 0
            if room:
                shares[node] = room
                left -= room
        if left:
            raise self._exhausted(count, order, owner, tuple(dict.fromkeys(nodes)), claim)
        return shares

    def _exhausted(
        self, count: int, order: int, owner: Owner, nodes: Sequence[int], claim: NodeClaim | None
    ) -> OutOfFrames:
        found = [self.pools[node].statistics() for node in nodes]
        return OutOfFrames(
            order,
            owner,
            sum(one.frames_free for one in found),
            max(
                (one.largest_free_order for one in found if one.largest_free_order is not None), default=None
            ),
            claimed=sum(one.frames_claimed for one in found)
            - sum(claim.left_on(node) for node in nodes if claim is not None),
            count=count,
        )

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


def _none_named(owner: Owner) -> MisuseError:
    return MisuseError(f"No node was named for a block of {owner}: name at least one")


def _part(claim: NodeClaim | None, node: int) -> Claim | None:
    return None if claim is None else claim.part(node)
