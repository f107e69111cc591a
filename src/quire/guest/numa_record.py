"""What a run's report says of NUMA nodes: where pages and tables went, and which references were remote."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from quire.machine import Vcpu
from quire.memory import FRAME_SHIFT, OwnerKind
from quire.memory.numa import NodePools
from quire.tlb.nodes import NodeCount

__all__ = ["numa_record"]

#: Frames of the hypervisor's own tables.
_HOST_TABLES = (OwnerKind.EPT_TABLE, OwnerKind.SHADOW_TABLE)


def numa_record(vcpus: Sequence[Vcpu], *, full: bool) -> dict[str, Any] | None:
    """Return the nodes, what lies on each, and references from node to node; None on a host without nodes.

    Without `full` detail no data access was seen, and walks are those that the engine's own TLB missed.
    """
    vcpu = vcpus[0]
    pools, numa = vcpu.machine.placement.node_pools, vcpu.machine.config.numa
    if pools is None:
        return None
    topology = pools.topology
    kinds = [NodeCount.GUEST_TABLE, NodeCount.HOST_TABLE, *([NodeCount.DATA] if full else [])]
    return {
        "topology": {
            "sizes": list(topology.sizes),
            "distances": [list(row) for row in topology.distances],
            "source": topology.source,
        },
        "policy": None if numa is None else str(numa.policy),
        "guest_tables": None if numa is None else str(numa.guest_tables or numa.policy),
        "host_tables": None if numa is None else str(numa.host_tables),
        "replicated": numa is not None and numa.replicate,
        "vcpu_node": vcpu.node,
        "vcpu_nodes": [one.node for one in vcpus],
        "last_cache": 0 if numa is None else numa.last_cache,
        "frames": _frames(vcpu, pools),
        "fell_back": pools.fell_back,
        "misplaced": vcpu.host.misplaced(),
        "references": {kind.name.lower(): _references(vcpus, kind) for kind in kinds},
    }


def _references(vcpus: Sequence[Vcpu], kind: NodeCount) -> dict[str, Any]:
    """Return the references of all vCPUs, from where each ran to where the memory is."""
    counters = [one.node_references for one in vcpus if one.node_references is not None]
    made, missed = (
        np.sum([one.matrix(kind, memory=memory) for one in counters], axis=0) for memory in (False, True)
    )
    return {
        "matrix": made.tolist(),
        "local": sum(one.local(kind) for one in counters),
        "remote": sum(one.remote(kind) for one in counters),
        "in_memory": missed.tolist(),
    }


def _frames(vcpu: Vcpu, pools: NodePools) -> dict[str, list[int]]:
    """Return how many frames of 4 KiB lie on each node, by what they are for."""
    mmu, count = vcpu.mmu, pools.topology.count
    tables = [0] * count
    for gpa in mmu.tables.addresses():
        tables[pools.node_of(mmu.entry_hpa(gpa) >> FRAME_SHIFT)] += 1
    guest = [pool.frames_of(OwnerKind.GUEST_PAGE) for pool in pools.pools]
    if mmu.mapped is not None:  # there the guest's tables lie in its pages
        small = mmu.mapped.page_size >> FRAME_SHIFT == 1
        guest = [pages - own if small else pages for pages, own in zip(guest, tables, strict=True)]
    return {
        "guest_pages": guest,
        "guest_tables": tables,
        "host_tables": [sum(pool.frames_of(kind) for kind in _HOST_TABLES) for pool in pools.pools],
        "free": [pool.frames_of(OwnerKind.FREE) for pool in pools.pools],
    }
