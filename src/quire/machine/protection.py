"""Rights of guest-physical memory that change while the machine runs."""

from typing import TYPE_CHECKING

from quire.errors import MisuseError
from quire.mmu.backed import BackedMmu
from quire.paging import Rights

if TYPE_CHECKING:
    from quire.machine.hypervisor import Hypervisor

__all__ = ["protect_memory"]


def protect_memory(hypervisor: "Hypervisor", start: int, size: int, rights: Rights) -> None:
    """Give `size` bytes from guest-physical `start` these rights: in the regions, in what is mapped, on every vCPU.

    What any vCPU cached is flushed (SDM 3C §28.4.3.3: INVEPT after rights were reduced; INVVPID under shadow), for
    rights that only grow too, so that no vCPU has a violation of rights that it has got. Other addresses of the same
    memory keep theirs. Raises MisuseError for rights that the region or W^X does not allow, and for a machine without
    regions; what is refused or fails has changed nothing.
    """
    mmu = hypervisor.mmu
    if not isinstance(mmu, BackedMmu) or mmu.regions is None:
        raise MisuseError(
            "The guest has no regions whose rights could change: make it with GuestConfig regions"
        )
    changed = mmu.regions.protected(start, size, rights)
    mmu.memory_map.protect_range(start, size, rights)
    mmu.regions.put(changed)
    hypervisor.shoot_down(mmu.map_flush)
