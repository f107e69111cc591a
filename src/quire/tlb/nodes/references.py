"""The counts of one vCPU: references by kind, from the node that it ran on to the node whose memory they went to."""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quire.errors import MisuseError
from quire.tlb.nodes.line_cache import line_cache

__all__ = ["NodeCount", "NodeCounter", "NodeReferences"]


class NodeCount(IntEnum):
    """What is counted of each node."""

    GUEST_TABLE = (
        0  #: entries of the tables that hardware walks first: the guest's, under shadow the shadow's
    )
    HOST_TABLE = 1  #: entries of EPT
    DATA = 2  #: loads and stores of instructions, each once


class NodeCounter(NamedTuple):
    """What compiled code counts references with: arrays; for kernels that kernels call, the pointer to each."""

    nodes: Any  #: the node of each 2 MiB of host memory
    counts: Any  #: by node, made or reaching memory, and :class:`NodeCount`; flat
    lines: Any  #: of the last cache, see :class:`quire.tlb.nodes.line_cache.LineCache`


class NodeReferences:
    """Counts of a vCPU that runs `at` a node. `node_table` has the node of each 2 MiB of host memory.

    :attr:`counts` is what compiled code adds to: nodes x 2 x :class:`NodeCount`, since the vCPU came to its node: the
    references that were made, and those that missed a last cache of `cache` bytes; without one all do.
    """

    def __init__(self, node_table: npt.NDArray[np.uint8], nodes: int, at: int, cache: int = 0) -> None:
        self.node_table = node_table
        self.lines = line_cache(cache)
        self.counts: npt.NDArray[np.uint64] = np.zeros((nodes, 2, len(NodeCount)), np.uint64)
        self.at = at
        self._before: npt.NDArray[np.uint64] = np.zeros((nodes, nodes, 2, len(NodeCount)), np.uint64)
        self._check(at)

    @property
    def counter(self) -> NodeCounter:
        """The arrays that compiled code counts with."""
        return NodeCounter(self.node_table, self.counts.reshape(-1), self.lines)

    def move(self, node: int) -> None:
        """Note that the vCPU runs at `node` from now on. Raises MisuseError for no node."""
        self._check(node)
        self._before[self.at] += self.counts
        self.counts[:] = 0
        self.at = node

    def matrix(self, kind: NodeCount, *, memory: bool = False) -> npt.NDArray[np.uint64]:
        """Return the references of `kind` as nodes x nodes: from where the vCPU ran, to where the memory is.

        With `memory`, those alone that no cache served.
        """
        found = self._before[:, :, int(memory), kind].copy()
        found[self.at] += self.counts[:, int(memory), kind]
        return found

    def local(self, kind: NodeCount, *, memory: bool = False) -> int:
        """Return how many references of `kind` went to the node that the vCPU ran on."""
        return int(np.trace(self.matrix(kind, memory=memory)))

    def remote(self, kind: NodeCount, *, memory: bool = False) -> int:
        """Return how many references of `kind` went to another node."""
        return int(self.matrix(kind, memory=memory).sum()) - self.local(kind, memory=memory)

    def _check(self, node: int) -> None:
        if not 0 <= node < len(self.counts):
            raise MisuseError(f"There is no node {node}: give 0 to {len(self.counts) - 1}")
