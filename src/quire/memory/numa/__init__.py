"""NUMA: the nodes of a machine, policies that choose among them, a pool for each, and the host's own nodes.

Contract: a topology is data, declared or read from the host; a frame's number says its node; where the host has nodes
they can be bound to and verified, elsewhere they are a model.
"""

from quire.memory.numa.claim import NodeClaim
from quire.memory.numa.node_pools import NodePools
from quire.memory.numa.policy import Policy, PolicyKind, parse_nodes
from quire.memory.numa.topology import (
    LOCAL_DISTANCE,
    MOST_NODES,
    NODE_GRAIN,
    REMOTE_DISTANCE,
    UNREACHABLE,
    Topology,
    read_distances,
)

__all__ = [
    "LOCAL_DISTANCE",
    "MOST_NODES",
    "NODE_GRAIN",
    "REMOTE_DISTANCE",
    "UNREACHABLE",
    "NodeClaim",
    "NodePools",
    "Policy",
    "PolicyKind",
    "Topology",
    "parse_nodes",
    "read_distances",
]
