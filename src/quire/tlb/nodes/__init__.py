"""References by NUMA node: which node's memory each data access and each reference of a page walk goes to.

Contract: a walk's references are those that its caches leave, in the order in which hardware makes them; nothing here
changes a walk, a TLB or a walk cache. IA-32e modes only.
"""

from quire.tlb.nodes.references import NodeCount, NodeReferences

__all__ = ["NodeCount", "NodeReferences"]
