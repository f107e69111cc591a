"""CPU profiles: what a processor model can do for virtual memory, and the geometry of its TLBs.

A profile is data that a study names and reports print. Geometry is what the vendor documents; replacement
policy, page-walk caches and latencies are not documented and are the tlb and study rooms' business. Fails
with MisuseError for a geometry that cannot exist, a width outside the architecture, or the name of a profile
that is not here.
"""

from dataclasses import dataclass, replace

from quire.arch.capabilities import ARCHITECTURE_VMX, SKYLAKE_X_VMX, VmxCapabilities, VmxMsr
from quire.arch.entries import physical_reserved
from quire.arch.geometry import Held, Side, TlbGeometry, WalkCacheGeometry
from quire.arch.layout import Layout, bit, bits, reserved
from quire.errors import MisuseError, did_you_mean

__all__ = [
    "ARCHITECTURE",
    "EPT_VPID_CAP",
    "PROFILES",
    "SKYLAKE_X",
    "CpuProfile",
    "TlbGeometry",
    "profile_by_name",
]

EPT_VPID_CAP = Layout(
    "EPT_VPID_CAP",
    64,
    "SDM 3D §A.10",
    (
        bit(0, "execute_only", "EPT entries may allow fetches only"),
        reserved(1, 5),
        bit(6, "walk_length_4", "EPT page-walk length 4"),
        bit(7, "walk_length_5", "EPT page-walk length 5"),
        bit(8, "memory_type_uc", "EPT structures may be uncacheable"),
        reserved(9, 13),
        bit(14, "memory_type_wb", "EPT structures may be write-back"),
        reserved(15),
        bit(16, "page_2m", "EPT entries may map 2 MiB pages"),
        bit(17, "page_1g", "EPT entries may map 1 GiB pages"),
        reserved(18, 19),
        bit(20, "invept", "INVEPT"),
        bit(21, "accessed_dirty", "accessed and dirty flags for EPT"),
        bit(22, "advanced_exit_info", "EPT violations report the rights of the linear address"),
        bit(23, "sss", "supervisor shadow-stack control"),
        reserved(24),
        bit(25, "invept_single", "INVEPT type 1, single-context"),
        bit(26, "invept_all", "INVEPT type 2, all-context"),
        reserved(27, 31),
        bit(32, "invvpid", "INVVPID"),
        reserved(33, 39),
        bit(40, "invvpid_individual", "INVVPID type 0, individual-address"),
        bit(41, "invvpid_single", "INVVPID type 1, single-context"),
        bit(42, "invvpid_all", "INVVPID type 2, all-context"),
        bit(43, "invvpid_retaining_globals", "INVVPID type 3, single-context-retaining-globals"),
        reserved(44, 47),
        bits(48, 53, "max_hlat_prefix", "largest HLAT prefix size"),
        reserved(54, 63),
    ),
)


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """A processor model.

    `maxphyaddr` and `linear_bits` are in bits; `ept_caps` is the value of IA32_VMX_EPT_VPID_CAP (SDM 3D
    §A.10, layout EPT_VPID_CAP), `vmx` the other VMX capabilities. Raises MisuseError for widths that the
    architecture excludes, reserved capability bits, or two TLBs of one name.
    """

    name: str
    maxphyaddr: int
    linear_bits: int
    page_1g: bool
    nx: bool
    ept_caps: int
    tlbs: tuple[TlbGeometry, ...]
    vmx: VmxCapabilities
    walk_caches: tuple[WalkCacheGeometry, ...] = ()
    rtm: bool = False  #: CPUID.7:EBX[11], restricted transactional memory

    def __post_init__(self) -> None:
        physical_reserved(self.maxphyaddr)  # raises with the bound when it is out of the architecture
        if self.linear_bits not in (48, 57):
            raise MisuseError(
                f"Profile {self.name}: {self.linear_bits:#x} linear-address bits do not exist: "
                "give 0x30 or 0x39"
            )
        stray = self.ept_caps & EPT_VPID_CAP.reserved_mask
        if stray:
            raise MisuseError(f"Profile {self.name}: ept_caps has reserved bits {stray:#x} set: clear them")
        if len({tlb.name for tlb in self.tlbs}) != len(self.tlbs):
            raise MisuseError(f"Profile {self.name} has two TLBs of one name: rename one of them")

    def vmx_msr(self, number: int) -> int:
        """Return the 64-bit value of the VMX capability MSR `number`, 0x480 to 0x493; MisuseError for another.

        SDM 3D §A.
        """
        return self.ept_caps if number == VmxMsr.EPT_VPID_CAP else self.vmx.msr(number)

    def tlb(self, name: str) -> TlbGeometry:
        """Return the geometry of the TLB called `name`. Raises MisuseError if the profile has none."""
        for one in self.tlbs:
            if one.name == name:
                return one
        known = [one.name for one in self.tlbs]
        raise MisuseError(
            f"Profile {self.name} has no TLB {name!r}{did_you_mean(name, known)}: it has {', '.join(known)}"
        )


# Geometry: Intel 64 and IA-32 Architectures Optimization Reference Manual, Skylake microarchitecture, "TLB
# parameters". The 2M/4M arrays hold 2 MiB pages only here: 4 MiB pages do not exist in 4-level paging.
SKYLAKE_X = CpuProfile(
    name="skylake-x",
    maxphyaddr=46,
    linear_bits=48,
    page_1g=True,
    nx=True,
    rtm=True,
    ept_caps=EPT_VPID_CAP.encode(
        execute_only=1,
        walk_length_4=1,
        memory_type_uc=1,
        memory_type_wb=1,
        page_2m=1,
        page_1g=1,
        invept=1,
        accessed_dirty=1,
        advanced_exit_info=1,
        invept_single=1,
        invept_all=1,
        invvpid=1,
        invvpid_individual=1,
        invvpid_single=1,
        invvpid_all=1,
        invvpid_retaining_globals=1,
    ),
    tlbs=(
        TlbGeometry("L1I 4K", 1, (Side.FETCH,), (12,), entries=128, ways=8),
        TlbGeometry("L1I 2M", 1, (Side.FETCH,), (21,), entries=8, ways=8),
        TlbGeometry("L1D 4K", 1, (Side.LOAD, Side.STORE), (12,), entries=64, ways=4),
        TlbGeometry("L1D 2M", 1, (Side.LOAD, Side.STORE), (21,), entries=32, ways=4),
        TlbGeometry("L1D 1G", 1, (Side.LOAD, Side.STORE), (30,), entries=4, ways=4),
        TlbGeometry("L2", 2, tuple(Side), (12, 21), entries=1536, ways=12),
        TlbGeometry("L2 1G", 2, tuple(Side), (30,), entries=16, ways=4),
    ),
    walk_caches=(
        WalkCacheGeometry("PDE cache", False, (Held.PDE,), 32, 4),
        WalkCacheGeometry("PDPTE cache", False, (Held.PDPTE,), 4, 4),
        WalkCacheGeometry("PML4E cache", False, (Held.PML4E,), 2, 2),
        WalkCacheGeometry("EPT PDE cache", True, (Held.PDE,), 32, 4),
        WalkCacheGeometry("EPT PDPTE cache", True, (Held.PDPTE,), 4, 4),
        WalkCacheGeometry("EPT PML4E cache", True, (Held.PML4E,), 2, 2),
        WalkCacheGeometry("nested TLB", True, (Held.PAGE,), 32, 32),
    ),
    vmx=SKYLAKE_X_VMX,
)

# No product has exactly these: what a study or a conformance suite needs to reach every rule that Quire models.
ARCHITECTURE = replace(
    SKYLAKE_X,
    name="architecture",
    maxphyaddr=52,
    linear_bits=57,
    vmx=ARCHITECTURE_VMX,
    ept_caps=SKYLAKE_X.ept_caps | EPT_VPID_CAP.mask("walk_length_5", "sss"),
)

#: Every profile, in the order in which help texts list them.
PROFILES: tuple[CpuProfile, ...] = (SKYLAKE_X, ARCHITECTURE)


def profile_by_name(name: str) -> CpuProfile:
    """Return the profile called `name`, ``skylake-x`` for instance.

    Raises MisuseError, with the closest name, if there is none.
    """
    for profile in PROFILES:
        if profile.name == name:
            return profile
    known = [profile.name for profile in PROFILES]
    raise MisuseError(
        f"No CPU profile is called {name!r}{did_you_mean(name, known)}: there is {', '.join(known)}"
    )
