"""Guest-physical memory that is backed on demand by a memory map, and ept, the Mmu whose hardware walks that map.

The map is a hierarchy in EPT format: what hardware walks under ept is what the hypervisor looks up under shadow. A
frame is allocated and mapped when something asks for it.
"""

from abc import abstractmethod
from typing import cast

import numpy as np
import numpy.typing as npt

from quire.arch import (
    EPT_VIOLATION_QUALIFICATION,
    EPTP,
    PAGE_SHIFT,
    PAGE_SIZE,
    ExitReason,
    MemoryType,
    ep4ta,
)
from quire.errors import MisuseError
from quire.memory import Fill, OutOfFrames, Owner, OwnerKind, Pool
from quire.mmu.host import Host
from quire.mmu.paged import PagedMmu, block_order
from quire.mmu.placement import Placement
from quire.mmu.regions import Region, RegionKind
from quire.mmu.replicated_tables import ReplicatedTables
from quire.paging import EPT_FORMAT, Context, PagingFormat, Rights, Tables
from quire.tlb import AddressSpace, Operation
from quire.vcpu import Exit, VmxState

__all__ = ["GUEST_PAGE", "BackedMmu", "EptMmu", "TableFrames", "make_ept", "table_memory"]

GUEST_PAGE = Owner(OwnerKind.GUEST_PAGE, "guest pages")
_ALL_RIGHTS = Rights.READ | Rights.WRITE | Rights.EXECUTE
_ZERO = Fill.ZERO
_EPT_TABLE = Owner(OwnerKind.EPT_TABLE, "EPT")


class BackedMmu(PagedMmu):
    """Guest frames are numbers of the guest's own pool, backed on demand by host pages that `memory_map` maps."""

    #: Memory of a process guest begins here, above the legacy hole, so that GPA 0 is never valid.
    _first_gfn = 0x100
    _handler: str  #: whose work it is to back memory
    map_flush: Operation  #: drops, on one vCPU, what was cached of the memory map
    hardware_walks_map = False
    tracked = False  #: whether somebody clears EPT's accessed flags

    def __init__(
        self,
        host: Host,
        vmx: VmxState,
        guest_bytes: int,
        page_size: int,
        memory_map: Tables,
        placement: Placement | None = None,
    ) -> None:
        count = guest_bytes >> PAGE_SHIFT
        super().__init__(host, vmx, Pool(self._first_gfn, count - self._first_gfn), placement)
        self.guest_bytes = guest_bytes
        self.page_size = page_size
        self.memory_map = memory_map
        memory_map.on_change = self.changed_for_all
        self.blocks: dict[int, int] = {}  #: first host frame of the block behind each guest page, by GPA
        self.page_owner = GUEST_PAGE  #: whose the host frames in `blocks` are
        self._used_before = np.zeros(count, np.uint8)
        self._used = self._used_before.data

    @property
    def mapped(self) -> "BackedMmu":
        """This Mmu."""
        return self

    def share(self, first: PagedMmu) -> None:
        """Be the Mmu of another vCPU of the guest that `first`, of the same class, has the memory of."""
        super().share(first)
        first = cast(BackedMmu, first)
        self.frames, self._used_before, self._used = first.frames, first._used_before, first._used
        self.blocks, self.regions, self.page_owner = first.blocks, first.regions, first.page_owner
        self.memory_map.on_change = first.changed_for_all

    @abstractmethod
    def software_exit(self, gpa: int, *, write: bool) -> None:
        """Let the hypervisor deal with a software access to guest-physical `gpa` that hardware would not allow."""

    def reach(self, gpa: int, *, write: bool = False) -> int:
        """Return the HPA of `gpa`; a hole is an exit, dealt with as any other."""
        hpa = self.memory_map.target(gpa)
        if hpa is None:
            self.software_exit(gpa, write=write)
            hpa = self.memory_map.target(gpa)
            if hpa is None:
                raise MisuseError(
                    f"The {self._handler} handler left GPA {gpa:#x} unmapped: call context.mmu.back(gpa) in it"
                )
        if write and self.log is not None:
            self.log.written(gpa)
        return hpa

    def back(self, gpa: int) -> bool:
        """Give guest-physical `gpa` a host page; return False when the guest has no memory there.

        A region's contents are in it then; an alias is mapped to the page that it shows, which is backed if need be.
        Raises OutOfFrames when the host has none left.
        """
        if not 0 <= gpa < self.guest_bytes:
            return False
        size = self.page_size
        start = gpa & ~(size - 1)
        region = None
        if self.regions is not None:
            region = self.regions.at(gpa)
            if region is None or region.kind is RegionKind.MMIO:
                return False
            if not region.owns:
                return self._back_alias(region, start)
        hfn = self.placement.page(
            block_order(size), self.page_owner, _ZERO, start // size, table=self._is_table(gpa)
        )
        try:
            self._map_page(start, hfn << PAGE_SHIFT, region)
        except BaseException:
            self.host.pool.free(hfn, block_order(size), self.page_owner)
            raise
        self.blocks[start] = hfn
        if self.regions is not None:
            self._fill(start, hfn << PAGE_SHIFT, self.regions.contents(start, size))
        return True

    def _back_alias(self, alias: Region, start: int) -> bool:
        """Map the host page at `start` of `alias` to the memory that it shows, which is backed first if need be."""
        origin = start - alias.start + alias.origin
        if self.memory_map.target(origin) is None and not self.back(origin):
            return False
        hpa = self.memory_map.target(origin)
        assert hpa is not None
        self._map_page(start, hpa, alias)
        return True

    def _map_page(self, start: int, hpa: int, region: Region | None) -> None:
        """Map a host page as `region` says, by small pages while writes are logged."""
        size, memory_map = self.page_size, self.memory_map
        rights, kind = (
            (_ALL_RIGHTS, MemoryType.WB) if region is None else (region.allowed, region.memory_type)
        )
        if self.log is None:
            memory_map.map(start, hpa, size, rights, kind)
        else:
            memory_map.map_range(start, hpa, size, rights, memory_type=kind)
            try:
                self.log.backed(start, size)
            except BaseException:
                memory_map.unmap_range(start, size)
                raise

    def _fill(self, start: int, hpa: int, contents: bytes) -> None:
        """Put `contents` into the page at `start`, which has just been backed by `hpa`."""
        self.host.memory.write(hpa, contents)
        if self.log is not None:
            for at in range(start, start + len(contents), PAGE_SIZE):
                self.log.written(at)

    def _is_table(self, gpa: int) -> bool:
        """Whether the guest has a table of its own at `gpa`, as far as its kernel is Quire."""
        gfn = gpa >> PAGE_SHIFT
        return gfn >= self._first_gfn and self.frames.owner_of(gfn).kind is OwnerKind.GUEST_TABLE

    def allocate(self, size: int) -> int | None:
        """Return guest-physical memory that reads as zero; frames are backed when they are touched."""
        order = block_order(size)
        try:
            gfn = self.frames.allocate(order, GUEST_PAGE)
        except OutOfFrames:
            return None
        if not order and not self._used[gfn]:
            self._used[gfn] = 1
            return gfn << PAGE_SHIFT
        frames = self._used_before[gfn : gfn + (1 << order)]
        if frames.any():
            try:
                for n in np.flatnonzero(frames).tolist():
                    hpa = self.reach((gfn + n) << PAGE_SHIFT, write=True)
                    self.host.memory.fill(hpa >> PAGE_SHIFT, 1, 0)
            except BaseException:
                self.frames.free(gfn, order, GUEST_PAGE)
                raise
        frames[:] = 1
        return gfn << PAGE_SHIFT

    def free_table_frame(self, gfn: int) -> None:
        """Take a frame of the guest's tables back, which has entries in it still."""
        self._used[gfn] = 1
        super().free_table_frame(gfn)

    def resident_bytes(self) -> int:
        """Host pages given so far."""
        return len(self.blocks) * self.page_size

    def close(self) -> None:
        """Free the guest's tables and every host page behind guest memory; the map itself is its maker's."""
        super().close()
        if self._sharers:
            return
        self.memory_map.unmap_range(0, 1 << 48)
        for hfn in self.blocks.values():
            self.host.pool.free(hfn, block_order(self.page_size), self.page_owner)
        self.blocks.clear()


class EptMmu(BackedMmu):
    """Two dimensions: hardware walks the guest's tables and EPT."""

    name = "ept"
    _handler = "EPT violation"
    map_flush = Operation.INVEPT_CONTEXT
    hardware_walks_map = True

    def __init__(
        self,
        host: Host,
        vmx: VmxState,
        guest_bytes: int,
        page_size: int,
        ept: Tables,
        placement: Placement | None = None,
    ) -> None:
        super().__init__(host, vmx, guest_bytes, page_size, ept, placement)
        eptp = self._point_at(self.placement.toucher)
        vmx.enable_ept(eptp)

    def _point_at(self, node: int) -> int:
        """Walk the tables that `node` has, if it has its own; return their EPTP."""
        ept = self.memory_map
        root = ept.memory.copy_on(node, ept.root) if isinstance(ept.memory, ReplicatedTables) else ept.root
        eptp = EPTP.encode(MT=MemoryType.WB, walk_length=3, AD=1, addr=root)
        self._ep4ta = ep4ta(eptp)
        self.context[Context.EPTP] = eptp
        return eptp

    def place(self, node: int) -> None:
        """Walk the copy of EPT that `node` has, if it has one."""
        self.vmx.vmcs.write("ept_pointer", self._point_at(node))
        self.changed()

    @property
    def space(self) -> AddressSpace:
        """Combined mappings of this vCPU and this EPT hierarchy."""
        return AddressSpace(self.vmx.vpid, self.pcid, self._ep4ta)

    def software_exit(self, gpa: int, *, write: bool) -> None:
        """An EPT violation of an access that has no linear address."""
        said = EPT_VIOLATION_QUALIFICATION.encode(R=not write, W=write)
        self.on_exit(Exit(ExitReason.EPT_VIOLATION, said, gpa))


class TableFrames:
    """Where tables of the hypervisor's own live: frames of the host's pool, owned by `owner`. Addresses are HPAs."""

    def __init__(self, host: Host, owner: Owner, placement: Placement) -> None:
        self.load = host.memory.load
        self.store = host.memory.store
        self._pool, self._owner, self._placement = host.pool, owner, placement
        self._frames = host.memory.frames

    def row(self, address: int) -> npt.NDArray[np.uint64]:
        """Return the 512 entries of the table at `address`, in place."""
        row: npt.NDArray[np.uint64] = self._frames[address >> PAGE_SHIFT]
        return row

    def allocate_table(self) -> int:
        """Return the HPA of a zeroed frame."""
        return self._placement.table(self._owner) << PAGE_SHIFT

    def free_table(self, address: int) -> None:
        """Take the frame back."""
        self._pool.free(address >> PAGE_SHIFT, 0, self._owner)


def table_memory(
    host: Host, owner: Owner, form: PagingFormat, placement: Placement
) -> TableFrames | ReplicatedTables:
    """Return where tables in `form` of the hypervisor's own are to live: on one node each, or on every node."""
    pools, numa = placement.node_pools, placement.numa
    if pools is not None and numa is not None and numa.replicate:
        return ReplicatedTables(host, pools, owner, form)
    return TableFrames(host, owner, placement)


def make_ept(host: Host, placement: Placement | None = None) -> Tables:
    """Return an empty EPT hierarchy in frames of `host`."""
    return Tables(table_memory(host, _EPT_TABLE, EPT_FORMAT, placement or Placement(host, None)), EPT_FORMAT)
