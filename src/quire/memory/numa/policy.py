"""Where memory is to come from: NUMA policies, each a value that orders the nodes for one allocation.

Models Linux's policies (set_mempolicy(2), Documentation/admin-guide/mm/numa_memory_policy.rst): local, preferred, bind,
interleave, weighted interleave; and first touch, which with one vCPU is local. *home* is the node of the guest's first
vCPU, *toucher* that of the vCPU whose access asks for memory now. Interleaving goes by page number, so that the same
page falls on the same node in every run. All but bind fall back to other nodes in order of distance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quire.errors import MisuseError, did_you_mean
from quire.memory.numa.topology import Topology

__all__ = ["Policy", "PolicyKind", "parse_nodes"]

_NODE = re.compile("[0-9]{1,2}")
_MOST_WEIGHT = 255  # as in Linux


class PolicyKind(StrEnum):
    """The policies, as options name them."""

    LOCAL = "local"
    PREFERRED = "preferred"
    BIND = "bind"
    INTERLEAVE = "interleave"
    WEIGHTED_INTERLEAVE = "weighted-interleave"
    FIRST_TOUCH = "first-touch"


_WITH_NODES = {PolicyKind.PREFERRED, PolicyKind.BIND, PolicyKind.INTERLEAVE}


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy: `nodes` of preferred (one), bind and interleave (none: all), `weights` of weighted interleave."""

    kind: PolicyKind = PolicyKind.LOCAL
    nodes: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Return the policy that `text` names: local, first-touch, preferred:1, bind:0,2-3, interleave[:NODES],
        weighted-interleave:3,1 (a weight for each node). Raises MisuseError for any other.
        """
        name, colon, rest = text.partition(":")
        try:
            kind = PolicyKind(name)
        except ValueError:
            raise MisuseError(
                f"No NUMA policy is called {name!r}{did_you_mean(name, map(str, PolicyKind))}: "
                f"give one of {', '.join(PolicyKind)}"
            ) from None
        if kind is PolicyKind.WEIGHTED_INTERLEAVE:
            weights = tuple(int(word) for word in rest.split(",") if re.fullmatch("[0-9]{1,9}", word))
            if not rest or len(weights) != len(rest.split(",")):
                raise MisuseError(f"Policy {text!r} has no weight for each node: give for example {name}:3,1")
            return cls(kind, weights=weights)
        if kind not in _WITH_NODES:
            if colon:
                raise MisuseError(f"Policy {text!r} names nodes, and {name} takes none: give {name}")
            return cls(kind)
        if not rest and (colon or kind is not PolicyKind.INTERLEAVE):
            raise MisuseError(f"Policy {text!r} names no node: give for example {name}:0")
        return cls(kind, parse_nodes(rest) if rest else ())

    def check(self, topology: Topology) -> None:
        """Raise MisuseError unless `topology` has what this names."""
        for node in self.nodes:
            topology.checked(node)
        if self.kind is PolicyKind.PREFERRED and len(self.nodes) != 1:
            raise MisuseError(f"Policy {self} names {len(self.nodes)} nodes: preferred takes one")
        if self.kind is PolicyKind.BIND and not self.nodes:
            raise MisuseError("Policy bind names no node: give for example bind:0")
        if self.kind is PolicyKind.WEIGHTED_INTERLEAVE:
            if len(self.weights) != topology.count:
                raise MisuseError(
                    f"Policy {self} has {len(self.weights)} weights for {topology.count} nodes: give one for each"
                )
            if not any(self.weights) or max(self.weights) > _MOST_WEIGHT:
                raise MisuseError(
                    f"Policy {self} cannot be: a weight is 0 to {_MOST_WEIGHT}, and one is not 0"
                )

    def order(self, topology: Topology, page: int, *, home: int, toucher: int) -> tuple[int, ...]:
        """Return the nodes to try for page number `page`, in order."""
        kind = self.kind
        if kind is PolicyKind.LOCAL:
            return topology.order_from(home)
        if kind is PolicyKind.FIRST_TOUCH:
            return topology.order_from(toucher)
        if kind is PolicyKind.BIND:
            return tuple(n for n in topology.order_from(toucher) if n in self.nodes)
        return topology.order_from(self.target(topology, page))

    def target(self, topology: Topology, page: int) -> int:
        """Return the node that preferred or an interleaving chooses for page number `page`."""
        if self.kind is PolicyKind.WEIGHTED_INTERLEAVE:
            at = page % sum(self.weights)
            for node, weight in enumerate(self.weights):
                if at < weight:
                    return node
                at -= weight
        nodes = self.nodes or tuple(range(topology.count))
        return nodes[page % len(nodes)]

    def __str__(self) -> str:
        if self.weights:
            return f"{self.kind}:{','.join(map(str, self.weights))}"
        return f"{self.kind}:{','.join(map(str, self.nodes))}" if self.nodes else str(self.kind)


def parse_nodes(text: str) -> tuple[int, ...]:
    """Return the node numbers of a list such as 0-2,4. Raises MisuseError for any other text."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _NODE.fullmatch(first) or (dash and (not _NODE.fullmatch(last) or int(last) < int(first))):
            raise MisuseError(f"{text!r} is no list of nodes: give for example 0-2,4")
        found.extend(range(int(first), int(last or first) + 1))
    if len(set(found)) != len(found):
        raise MisuseError(f"{text!r} names a node twice: give each once")
    return tuple(found)
