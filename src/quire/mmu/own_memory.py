"""The Mmus of machine guests: guest-physical memory from address 0, and page tables that are the guest's own.

Under native, guest-physical is host-physical: the guest has the low part of host memory, its pool is the rest, and
the walk is told the guest's size, so that no table of the guest can reach a frame of the hypervisor. Under ept and
shadow every guest-physical page is backed when it is touched.
"""

from quire.arch import PAGE_SHIFT
from quire.errors import MisuseError
from quire.memory import HostMemory, Pool
from quire.mmu.backed import BackedMmu, EptMmu
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.shadow import ShadowMmu
from quire.paging import Context
from quire.tlb import AddressSpace
from quire.vcpu import VmxState

__all__ = ["MachineEptMmu", "MachineNativeMmu", "MachineShadowMmu", "machine_host"]

_OVERHEAD = 8 << 20  # VMCS and what else the hypervisor keeps beside the guest's memory


def machine_host(guest_bytes: int) -> Host:
    """Return a host for one native machine guest: its memory lies below the pool's first frame."""
    memory = HostMemory(guest_bytes + _OVERHEAD)
    first = guest_bytes >> PAGE_SHIFT
    return Host(memory, Pool(first, memory.frame_count - first, memory))


class MachineNativeMmu(PagedMmu):
    """One dimension: guest-physical memory is host memory from 0 to `guest_bytes`."""

    name = "native"
    builds_tables = False

    def __init__(
        self, host: Host, vmx: VmxState, guest_bytes: int, placement: Placement | None = None
    ) -> None:
        super().__init__(host, vmx, host.pool, placement)
        self.guest_bytes = guest_bytes
        self.context[Context.MEMORY_BYTES] = guest_bytes

    @property
    def space(self) -> AddressSpace:
        """Linear mappings of this vCPU and its current PCID."""
        return AddressSpace(self.vmx.vpid, self.pcid, None)

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return `gpa`. Raises MisuseError beyond the guest's memory."""
        del write
        if not 0 <= gpa < self.guest_bytes:
            raise MisuseError(
                f"The guest has no memory at GPA {gpa:#x}: it ends at {self.guest_bytes:#x}, stay below"
            )
        return gpa

    def allocate(self, size: int) -> int | None:
        """Return None: all memory is the guest's own to hand out."""
        del size
        return None

    def resident_bytes(self) -> int:
        """All guest memory is host memory."""
        return self.guest_bytes

    def close(self) -> None:
        """Free nothing: the guest's tables lie in its memory, which goes with the host."""


class _OwnMemory(BackedMmu):
    """Guest-physical memory from 0, all of it the guest's own to hand out, its tables among it."""

    _first_gfn = 0
    builds_tables = False

    def allocate(self, size: int) -> int | None:
        """Return None: there is nobody to ask."""
        del size
        return None


class MachineEptMmu(_OwnMemory, EptMmu):
    """Two dimensions."""


class MachineShadowMmu(_OwnMemory, ShadowMmu):
    """One dimension for hardware: the guest's tables composed with the memory map."""
