"""CPU profiles: what a processor model can do for virtual memory, and the geometry of its TLBs and walk caches.

A profile is data that a study names and reports print; those that come with Quire are TOML files, see
:mod:`quire.arch.known_profiles`. Latencies are not here: they are the study room's business. Fails with MisuseError
for a width outside the architecture, and for structures that do not make one hierarchy.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from quire.arch.capabilities import VmxCapabilities, VmxMsr
from quire.arch.entries import physical_reserved
from quire.arch.geometry import Side, TlbGeometry, WalkCacheGeometry
from quire.arch.layout import Layout, bit, bits, reserved
from quire.errors import MisuseError, did_you_mean

__all__ = ["EPT_VPID_CAP", "CpuProfile"]

_PAGES = {12: "4 KiB", 21: "2 MiB", 30: "1 GiB"}

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

    `title` is its name for people; it is also found by its `aliases`. `maxphyaddr` and `linear_bits` are in bits;
    `ept_caps` is the value of IA32_VMX_EPT_VPID_CAP (SDM 3D §A.10, layout EPT_VPID_CAP), `vmx` the other VMX
    capabilities. `source` says who published widths and walkers, `notes` what a reader must know besides. Raises
    MisuseError for widths that the architecture excludes, reserved capability bits, no walker, two structures of one
    name or for the same look-up, or a level of TLBs that is left out.
    """

    name: str
    title: str
    vendor: str
    maxphyaddr: int
    linear_bits: int
    page_1g: bool
    nx: bool
    ept_caps: int
    tlbs: tuple[TlbGeometry, ...]
    vmx: VmxCapabilities
    rtm: bool = False  #: CPUID.7:EBX[11], restricted transactional memory
    walk_caches: tuple[WalkCacheGeometry, ...] = ()
    walkers: int = 1  #: page walks in flight at once; said, not modelled
    aliases: tuple[str, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()  #: of VMX_CAPABILITIES, those that nobody has published
    vmx_source: str = ""  #: who published the others
    other_widths: tuple[int, ...] = ()  #: MAXPHYADDR of other machines of this model

    def __post_init__(self) -> None:
        physical_reserved(self.maxphyaddr)  # raises with the bound when it is out of the architecture
        if self.linear_bits not in (48, 57):
            raise MisuseError(
                f"Profile {self.name}: {self.linear_bits} linear-address bits do not exist: give 48 or 57"
            )
        stray = self.ept_caps & EPT_VPID_CAP.reserved_mask
        if stray:
            raise MisuseError(f"Profile {self.name}: ept_caps has reserved bits {stray:#x} set: clear them")
        if self.walkers < 1:
            raise MisuseError(f"Profile {self.name} has {self.walkers} page walkers: give 1 or more")
        for width in self.other_widths:
            physical_reserved(width)
        for what, known in (
            ("TLBs", [one.name for one in self.tlbs]),
            ("walk caches", [one.name for one in self.walk_caches]),
        ):
            if len(set(known)) != len(known):
                raise MisuseError(f"Profile {self.name} has two {what} of one name: rename one of them")
        self._check_unique("TLBs", (
            (tlb.name, f"{_PAGES[shift]} pages for a {side} at level {tlb.level}")
            for tlb in self.tlbs for side in tlb.sides for shift in tlb.page_shifts
        ))  # fmt: skip
        self._check_unique("walk caches", (
            (cache.name, f"{held} of {'guest-physical' if cache.guest_physical else 'linear'} mappings")
            for cache in self.walk_caches for held in cache.holds
        ))  # fmt: skip
        self._check_levels()

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
            f"Profile {self.name} has no TLB {name!r}{did_you_mean(name, known)}: "
            f"it has {', '.join(known) or 'none at all'}"
        )

    def _check_unique(self, what: str, held: Iterable[tuple[str, str]]) -> None:
        """Raise MisuseError when two structures hold the same: which of them would answer?"""
        holders: dict[str, str] = {}
        for name, content in held:
            other = holders.setdefault(content, name)
            if other != name:
                raise MisuseError(
                    f"Profile {self.name}: {what} {other} and {name} both hold {content}: "
                    "take it from one of them"
                )

    def _check_levels(self) -> None:
        for side in Side:
            levels = {tlb.level for tlb in self.tlbs if side in tlb.sides}
            missing = set(range(1, max(levels, default=0))) - levels
            if missing:
                raise MisuseError(
                    f"Profile {self.name} has a TLB for a {side} at level {max(levels)} and none at level "
                    f"{min(missing)}: number the levels without gaps"
                )
