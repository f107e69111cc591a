"""What a guest wants of a machine with several nodes."""

from dataclasses import dataclass

from quire.errors import MisuseError
from quire.memory.numa import Policy, PolicyKind, Topology
from quire.tlb.nodes.line_cache import line_cache

__all__ = ["NumaConfig"]

_LOCAL = Policy(PolicyKind.FIRST_TOUCH)


@dataclass(frozen=True, slots=True)
class NumaConfig:
    """The machine's nodes, and policies: of guest pages, of the guest's own tables (None: as its pages), of the tables
    of the hypervisor, EPT or shadow. `vcpu_node` is where the first vCPU runs. With `replicate` every node has a copy
    of the hypervisor's tables, and a vCPU walks that of its node. `last_cache` bytes of cache lie before memory: what
    they hold, no node serves.
    """

    topology: Topology
    policy: Policy = _LOCAL
    guest_tables: Policy | None = None
    host_tables: Policy = _LOCAL
    vcpu_node: int = 0
    replicate: bool = False
    last_cache: int = 0

    def __post_init__(self) -> None:
        self.topology.checked(self.vcpu_node)
        for policy in (self.policy, self.guest_tables, self.host_tables):
            if policy is not None:
                policy.check(self.topology)
        line_cache(self.last_cache)  # refuses what is no size
        if self.replicate and self.host_tables != _LOCAL:
            raise MisuseError(
                f"Tables that every node has a copy of have no policy {self.host_tables}: leave one of both out"
            )
