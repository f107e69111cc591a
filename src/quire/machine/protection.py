"""Rights of guest-physical memory that change while the machine runs."""

from quire.errors import MisuseError
from quire.machine.machine import Machine
from quire.paging import Rights

__all__ = ["protect_memory"]


def protect_memory(machine: Machine, start: int, size: int, rights: Rights) -> None:
    """Give `size` bytes from guest-physical `start` these rights: in the regions, in what is mapped, on every vCPU.

    What any vCPU cached is flushed (SDM 3C §28.4.3.3: INVEPT after rights were reduced; INVVPID under shadow), for
    rights that only grow too, so that no vCPU has a violation of rights that it has got. Other addresses of the same
    memory keep theirs. Raises MisuseError for rights that the region or W^X does not allow, and for a machine without
    regions; what is refused or fails has changed nothing.
    """
    mapped = machine.mmu.mapped
    if mapped is None or mapped.regions is None:
        raise MisuseError(
            "The guest has no regions whose rights could change: make it with GuestConfig regions"
        )
    changed = mapped.regions.protected(start, size, rights)
    mapped.memory_map.protect_range(start, size, rights)
    mapped.regions.put(changed)
    machine.shoot_down(mapped.map_flush)
