"""Guest-physical regions: what a machine guest has at which address, as data.

Contract: what cannot be is refused when the machine is made, by a message that names both regions; a page has the
rights and the memory type of its region and no others, whoever maps it, logs its writes or moves it.
"""

from quire.mmu.regions.memory_regions import MemoryRegions
from quire.mmu.regions.region import Region, RegionKind

__all__ = ["MemoryRegions", "Region", "RegionKind"]
