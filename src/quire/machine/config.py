"""What a guest gets, as one value that is checked when it is made."""

from dataclasses import dataclass, field, replace

from quire.arch import EPT_VPID_CAP, SKYLAKE_X, CpuProfile, MemoryType
from quire.errors import MisuseError
from quire.machine.caching import CachingMode
from quire.machine.shape import Shape, shape_of
from quire.mmu.numa_config import NumaConfig
from quire.mmu.regions import MemoryRegions, Region, RegionKind
from quire.mmu.shadow import ShadowOptions
from quire.tlb import TlbOptions

__all__ = ["BUS_MEMORY", "MOST_VCPUS", "GuestConfig", "check_several"]

#: Of one guest.
MOST_VCPUS = 16

#: The most memory of a guest with a bus, in bytes.
BUS_MEMORY = 3 << 30
_LEAST_MEMORY = 4 << 20


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """What a guest gets: sizes in bytes, `mmu` one of :data:`MMUS`, pages of the guest's tables and of what backs it.

    `kind` is process, whose kernel Quire plays, or machine, which brings its own: then guest-physical memory
    begins at 0 and the guest's tables are the guest's. `shadow` counts under that Mmu alone. `tlb` changes what the
    profile says of caches; `vpid` 0 turns VPIDs off, so that every VM entry and exit flushes. `caching` says what
    the processor does with translations, `seed` chooses what goes in evict mode, `check_flushes` looks for stale ones.
    `numa` gives the host nodes and says where memory comes from. `regions` are all that a machine guest has at its
    guest-physical addresses, up to `memory`; without any it has RAM with all rights. With `wxorx` no page of theirs is
    ever writable and executable. `name` tells the frames of guests apart that share a host. `vcpus` is how many
    vCPUs there are, each with a VPID of its own if there are any, and `vcpu_nodes` where each runs, by default all on
    the first's. With `bus` data beyond the memory of a machine guest, up to 4 GiB, are devices', on the machine's bus;
    without it such an access ends the guest.
    """

    mmu: str = "ept"
    memory: int = 2 << 30
    guest_page: int = 4 << 10
    host_page: int = 4 << 10
    profile: CpuProfile = SKYLAKE_X
    kind: str = "process"
    shadow: ShadowOptions = field(default_factory=ShadowOptions)
    tlb: TlbOptions = field(default_factory=TlbOptions)
    vpid: int = 1
    caching: CachingMode = CachingMode.MODELLED
    seed: int = 0
    check_flushes: bool = False
    numa: NumaConfig | None = None
    regions: tuple[Region, ...] = ()
    wxorx: bool = False
    name: str = ""
    vcpus: int = 1
    vcpu_nodes: tuple[int, ...] = ()
    bus: bool = False

    def __post_init__(self) -> None:
        shape = self.shape
        if self.vpid >> 16:
            raise MisuseError(f"VPID {self.vpid:#x} has more than 16 bits: give 1 to 0xffff, or 0 for none")
        if self.caching not in list(CachingMode):
            raise MisuseError(f"No caching mode is called {self.caching!r}: give {' or '.join(CachingMode)}")
        object.__setattr__(self, "caching", CachingMode(self.caching))
        if self.numa is not None and not shape.shares_host:
            raise MisuseError(
                "Memory of a machine guest under native is host memory from 0, which no policy places: "
                "give mmu='ept' or 'shadow'"
            )
        if self.numa is not None and self.numa.replicate and not shape.has_map:
            raise MisuseError(
                "Under native there are no tables of the hypervisor that nodes could have copies of: "
                "give mmu='ept' or 'shadow'"
            )
        if self.numa is not None and self.numa.topology.size < self.memory:
            raise MisuseError(
                f"A guest with {self.memory:_} bytes is larger than all nodes, which have "
                f"{self.numa.topology.size:_}: give it less, or the nodes more"
            )
        if self.memory < _LEAST_MEMORY or self.memory % 4096:
            raise MisuseError(
                f"Guest memory of {self.memory:_} bytes is too small or no multiple of 4 KiB: "
                f"give at least {_LEAST_MEMORY >> 20} MiB"
            )
        if self.memory >> self.profile.maxphyaddr:
            raise MisuseError(
                f"Guest memory of {self.memory:_} bytes needs more than the {self.profile.maxphyaddr} physical "
                f"address bits of {self.profile.name}: give less than {1 << self.profile.maxphyaddr - 30} GiB"
            )
        self._check_vcpus()
        self._check_regions()
        self._check_bus()

    @property
    def shape(self) -> Shape:
        """How such a guest is made, and what it may have."""
        return shape_of(self.kind, self.mmu)

    def memory_regions(self) -> MemoryRegions | None:
        """Return the guest-physical map of one machine, None without regions. Raises MisuseError for what cannot be."""
        if not self.regions:
            return None
        return MemoryRegions(
            self.regions,
            memory=self.memory,
            width=self.profile.maxphyaddr,
            host_page=self.host_page,
            execute_only=bool(EPT_VPID_CAP.get(self.profile.ept_caps, "execute_only")),
            wxorx=self.wxorx,
        )

    def _check_vcpus(self) -> None:
        if not 1 <= self.vcpus <= MOST_VCPUS:
            raise MisuseError(f"A guest with {self.vcpus} vCPUs cannot be made: give 1 to {MOST_VCPUS}")
        if self.vcpus > 1:
            check_several(self)
        object.__setattr__(self, "vcpu_nodes", tuple(self.vcpu_nodes))
        if self.vcpu_nodes and (self.numa is None or len(self.vcpu_nodes) != self.vcpus):
            raise MisuseError(
                f"{len(self.vcpu_nodes)} nodes cannot be given to {self.vcpus} vCPUs: give numa, and one node for "
                "each vCPU"
            )
        if self.vcpu_nodes and self.numa is not None:
            for node in self.vcpu_nodes:
                self.numa.topology.checked(node)
            object.__setattr__(self, "numa", replace(self.numa, vcpu_node=self.vcpu_nodes[0]))

    def _check_bus(self) -> None:
        if self.bus and not self.shape.own_kernel:
            raise MisuseError("A process guest reaches no device: give kind='machine', or leave the bus out")
        if self.bus and self.memory > BUS_MEMORY:
            raise MisuseError(
                f"Guest memory of {self.memory:_} bytes leaves no room for devices below 4 GiB: "
                f"give at most {BUS_MEMORY >> 20} MiB"
            )

    def _check_regions(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))
        if not self.regions:
            if self.wxorx:
                raise MisuseError(
                    "W^X holds for regions, and there are none: give regions, or leave wxorx out"
                )
            return
        first = self.regions[0]
        if not self.shape.own_kernel:
            raise MisuseError(
                f"{first} cannot be given to a process guest, whose memory Quire hands out: give kind='machine'"
            )
        if not self.shape.has_map:
            raise MisuseError(
                f"{first} cannot be had under native, where no memory map says so: give mmu='ept' or 'shadow'"
            )
        for one in self.regions if self.shape.shadows else ():
            if one.kind is RegionKind.ALIAS:
                raise MisuseError(
                    f"{one} cannot be had under shadow: a guest that writes its tables at another address would not be "
                    "seen; give mmu='ept'"
                )
            if one.memory_type is not MemoryType.WB:
                raise MisuseError(
                    f"{one} cannot have memory type {one.memory_type.name} under shadow, where no hardware walks the "
                    "memory map: give WB, or mmu='ept'"
                )
        self.memory_regions()


def check_several(config: GuestConfig) -> None:
    """Raise MisuseError if such a guest has one vCPU and no more."""
    if not config.shape.several_vcpus:
        raise MisuseError(
            f"A {config.kind} guest under {config.mmu} has one vCPU: several share the memory of a process guest, "
            "or of a machine guest under native or ept"
        )
