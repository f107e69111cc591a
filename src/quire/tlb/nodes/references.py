"""The counts of one vCPU: references by kind, from the node that it ran on to the node whose memory they went to."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError

__all__ = ["NodeCount", "NodeReferences"]


class NodeCount(IntEnum):
    """What is counted of each node."""

    GUEST_TABLE = (
        0  #: entries of the tables that hardware walks first: the guest's, under shadow the shadow's
    )
    HOST_TABLE = 1  #: entries of EPT
    DATA = 2  #: loads and stores of instructions, each once, whether a cache would have them or not


class NodeReferences:
    """Counts of a vCPU that runs `at` a node. `node_table` has the node of each 2 MiB of host memory.

    :attr:`counts` is what compiled code adds to: nodes x :class:`NodeCount`, since the vCPU came to its node.
    """

    def __init__(self, node_table: npt.NDArray[np.uint8], nodes: int, at: int) -> None:
        self.node_table = node_table
        self.counts: npt.NDArray[np.uint64] = np.zeros((nodes, len(NodeCount)), np.uint64)
        self.at = at
        self._before: npt.NDArray[np.uint64] = np.zeros((nodes, nodes, len(NodeCount)), np.uint64)
        self._check(at)

    def move(self, node: int) -> None:
        """Note that the vCPU runs at `node` from now on. Raises MisuseError for no node."""
        self._check(node)
        self._before[self.at] += self.counts
        self.counts[:] = 0
        self.at = node

    def matrix(self, kind: NodeCount) -> npt.NDArray[np.uint64]:
        """Return the references of `kind` as nodes x nodes: from where the vCPU ran, to where the memory is."""
        found = self._before[:, :, kind].copy()
        found[self.at] += self.counts[:, kind]
        return found

    def local(self, kind: NodeCount) -> int:
        """Return how many references of `kind` went to the node that the vCPU ran on."""
        return int(np.trace(self.matrix(kind)))

    def remote(self, kind: NodeCount) -> int:
        """Return how many references of `kind` went to another node."""
        return int(self.matrix(kind).sum()) - self.local(kind)

    def _check(self, node: int) -> None:
        if not 0 <= node < len(self.counts):
            raise MisuseError(f"There is no node {node}: give 0 to {len(self.counts) - 1}")
