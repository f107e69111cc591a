"""The three Mmus: how guest-virtual becomes host-physical, natively, by EPT, by a shadow; and the memory behind them.

Contract: same page-table, TLB and cache operations under each, same guest results; what one can do is asked of it. A
frame that cannot be had is OutOfFrames, an access that no table allows is a value.
"""

from quire.mmu.backed import BackedMmu, EptMmu
from quire.mmu.host import Host
from quire.mmu.linear_memory import WalkedMemory
from quire.mmu.numa_config import NumaConfig
from quire.mmu.own_memory import MachineEptMmu, MachineNativeMmu, MachineShadowMmu
from quire.mmu.paged import NativeMmu, PagedMmu
from quire.mmu.placement import Placement
from quire.mmu.regions.memory_regions import MemoryRegions
from quire.mmu.regions.region import Region, RegionKind
from quire.mmu.replicated_tables import ReplicatedTables
from quire.mmu.shadow import ShadowMmu, ShadowOptions

__all__ = [
    "BackedMmu",
    "EptMmu",
    "Host",
    "MachineEptMmu",
    "MachineNativeMmu",
    "MachineShadowMmu",
    "MemoryRegions",
    "NativeMmu",
    "NumaConfig",
    "PagedMmu",
    "Placement",
    "Region",
    "RegionKind",
    "ReplicatedTables",
    "ShadowMmu",
    "ShadowOptions",
    "WalkedMemory",
]
