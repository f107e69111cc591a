"""NUMA for guests: what is wanted, where frames come from, tables that every node has its own copy of, pages that move.

Contract: placement, replication and migration never change what a guest computes; hardware's flags are seen wherever it
set them. Below, :mod:`quire.memory.numa` has topologies, policies and pools.
"""

from quire.hypervisor.numa.config import NumaConfig
from quire.hypervisor.numa.placement import Placement
from quire.hypervisor.numa.replicated_tables import ReplicatedTables

__all__ = ["NumaConfig", "Placement", "ReplicatedTables"]
