"""What some Mmus can do and others cannot: asked of an Mmu, which answers with itself or with None."""

from typing import Protocol

from quire.arch import Access
from quire.memory import Owner
from quire.mmu.regions import MemoryRegions
from quire.mmu.replicated_tables import ReplicatedTables
from quire.paging import Tables
from quire.paging.context import Words
from quire.paging.shadow import Resolution, Shadow
from quire.tlb import Operation

__all__ = ["Mapped", "Shadowed", "WriteLog"]


class Mapped(Protocol):
    """An Mmu whose guest-physical memory is backed on demand, by a map from guest-physical to host-physical."""

    name: str
    guest_bytes: int
    page_size: int  #: of what backs memory, in bytes
    memory_map: Tables
    hardware_walks_map: bool  #: and so keeps accessed and dirty flags in it
    tracked: bool  #: whether somebody clears the map's accessed flags
    map_flush: Operation  #: drops, on one vCPU, what was cached of the map
    blocks: dict[int, int]  #: first host frame of the block behind each guest page, by GPA
    page_owner: Owner  #: whose the host frames in `blocks` are
    regions: MemoryRegions | None
    context: Words

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; return False when the guest has no memory there."""
        ...


class Shadowed(Protocol):
    """An Mmu whose hardware walks tables that are kept equal to the guest's."""

    shadow: Shadow
    copies: ReplicatedTables | None  #: the memory of the shadow's tables, where every node has its own

    def resolve(self, gva: int, error_code: int) -> Resolution:
        """Return what a #PF exit comes to, everything done that the hypervisor can do. Raises OutOfFrames."""
        ...

    def own_fault(self, gva: int, access: Access, error: int, *, implicit: bool) -> int | None:
        """Return the error code of a #PF that the guest's own tables give, None if there is none."""
        ...

    def perform_invalidation(self, gva: int | None) -> None:
        """Do what INVLPG of `gva`, or MOV to CR3, of the played kernel does to TLB and shadow."""
        ...

    def check(self) -> None:
        """Audit the shadows of all vCPUs of the guest. Raises InternalError with every breach."""
        ...

    def counts(self) -> dict[str, int]:
        """Return what the shadow of this vCPU has and did so far, by name."""
        ...


class WriteLog(Protocol):
    """Who logs the guest's writes, as an Mmu knows it. Guest-physical addresses and sizes are in bytes."""

    def written(self, gpa: int) -> None:
        """Quire itself is about to write at `gpa`, which is backed: every such write is told here."""
        ...

    def violated(self, gpa: int) -> bool:
        """A write at `gpa` was not allowed: return whether the log had forbidden it, and allows it now."""
        ...

    def backed(self, gpa: int, size: int) -> None:
        """`size` bytes at `gpa` have just been given memory, in pages of 4 KiB."""
        ...
