"""A processor as far as it is known: a profile, and which of its capabilities nobody has said.

A verdict about a VMCS is certain if it is the same on the least and on the most capable processor that the knowledge
allows; otherwise it is "cannot know", and the capabilities on which it turns are named. Models the VMX capability MSRs
(SDM 3D §A), MAXPHYADDR, the width of linear addresses and RTM. Fails with MisuseError for an MSR that is none of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from quire.arch.capabilities import (
    ANY_VMX_CR4,
    VMX_BASIC,
    VMX_CONTROLS,
    VMX_MISC,
    VMX_VMCS_ENUM,
    Allowed,
    VmxMsr,
)
from quire.arch.controls import (
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    SECONDARY_EXIT_CONTROLS,
    TERTIARY_CONTROLS,
    VM_FUNCTION_CONTROLS,
)
from quire.arch.decode_controls import msr_name
from quire.arch.known_profiles import ARCHITECTURE
from quire.arch.layout import WORD, Layout
from quire.arch.profile import EPT_VPID_CAP, CpuProfile
from quire.errors import MisuseError

__all__ = ["ANY_PROCESSOR", "CAPABILITIES", "Capability", "KnownProcessor"]

_LEAST_WIDTH, _MOST_WIDTH = 36, 52  # MAXPHYADDR of processors with VMX, SDM 3A §4.1.4

Change = Callable[[CpuProfile], CpuProfile]


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a processor may or may not be able to do.

    `least` and `most` change a profile to the least and the most that any processor has of it; `said` tells a person
    what a profile has, given the bits of a value that must be 0 and those that must be 1.
    """

    name: str
    title: str
    least: Change = field(compare=False)
    most: Change = field(compare=False)
    said: Callable[[CpuProfile, int, int], str] = field(compare=False)


def _vmx(profile: CpuProfile, **changes: Any) -> CpuProfile:
    return replace(profile, vmx=replace(profile.vmx, **changes))


def _controls(name: str, msr: VmxMsr, layout: Layout) -> Capability:
    """Return the capability that says which controls of a field may be 0 and 1.

    Those of the default1 class may be 1 everywhere; without a name they may have to be (SDM 3D §A.2).
    """
    default1, everything = layout.default1_mask, (1 << layout.width) - 1
    nameless = default1 & layout.reserved_mask

    def said(profile: CpuProfile, clear: int, put: int) -> str:
        del clear, put
        return f"{msr_name(msr)} is {profile.vmx_msr(msr):#x}"

    return Capability(
        name,
        msr_name(msr),
        lambda profile: _vmx(profile, **{name: Allowed(nameless, default1)}),
        lambda profile: _vmx(profile, **{name: Allowed(0, everything)}),
        said,
    )


def _fixed(register: str, fixed0: VmxMsr, fixed1: VmxMsr, least: int, most: int) -> Capability:
    """Return the capability that says which bits of CR0 or CR4 may be 0 and 1: two MSRs, `least` and `most` known."""

    def said(profile: CpuProfile, clear: int, put: int) -> str:
        used = [msr for bits, msr in ((put, fixed0), (clear, fixed1)) if bits]
        return ", ".join(f"{msr_name(msr)} is {profile.vmx_msr(msr):#x}" for msr in used)

    def to(allowed1: int) -> Change:
        return lambda profile: _vmx(
            profile, **{register: replace(getattr(profile.vmx, register), allowed1=allowed1)}
        )

    return Capability(register, f"IA32_VMX_{fixed1.name} ({int(fixed1):#x})", to(least), to(most), said)


def _whole(
    name: str, title: str, least: Change, most: Change, said: Callable[[CpuProfile], str]
) -> Capability:
    return Capability(name, title, least, most, lambda profile, clear, put: said(profile))


_CR0, _CR4 = ARCHITECTURE.vmx.cr0, ARCHITECTURE.vmx.cr4

#: Everything that may be unknown, in the order in which verdicts name it.
CAPABILITIES: tuple[Capability, ...] = (
    _controls("pin", VmxMsr.TRUE_PINBASED_CTLS, PIN_BASED),
    _controls("primary", VmxMsr.TRUE_PROCBASED_CTLS, PRIMARY_CONTROLS),
    _controls("secondary", VmxMsr.PROCBASED_CTLS2, SECONDARY_CONTROLS),
    _controls("tertiary", VmxMsr.PROCBASED_CTLS3, TERTIARY_CONTROLS),
    _controls("exit", VmxMsr.TRUE_EXIT_CTLS, EXIT_CONTROLS),
    _controls("secondary_exit", VmxMsr.EXIT_CTLS2, SECONDARY_EXIT_CONTROLS),
    _controls("entry", VmxMsr.TRUE_ENTRY_CTLS, ENTRY_CONTROLS),
    _controls("vm_functions", VmxMsr.VMFUNC, VM_FUNCTION_CONTROLS),
    _fixed("cr0", VmxMsr.CR0_FIXED0, VmxMsr.CR0_FIXED1, _CR0.allowed1, _CR0.allowed1),
    _fixed("cr4", VmxMsr.CR4_FIXED0, VmxMsr.CR4_FIXED1, ANY_VMX_CR4, _CR4.allowed1),
    _whole(
        "misc",
        msr_name(VmxMsr.MISC),
        lambda profile: _vmx(profile, misc=0),
        lambda profile: _vmx(profile, misc=WORD & ~VMX_MISC.reserved_mask),
        lambda profile: f"{msr_name(VmxMsr.MISC)} is {profile.vmx.misc:#x}",
    ),
    _whole(
        "basic",
        msr_name(VmxMsr.BASIC),
        lambda profile: _vmx(profile, any_error_code=False),
        lambda profile: _vmx(profile, any_error_code=True),
        lambda profile: f"bit 56 of {msr_name(VmxMsr.BASIC)} is {int(profile.vmx.any_error_code)}",
    ),
    _whole(
        "vmcs_enum",
        msr_name(VmxMsr.VMCS_ENUM),
        lambda profile: _vmx(profile, highest_index=0),
        lambda profile: _vmx(profile, highest_index=ARCHITECTURE.vmx.highest_index),
        lambda profile: f"{msr_name(VmxMsr.VMCS_ENUM)} is {profile.vmx_msr(VmxMsr.VMCS_ENUM):#x}",
    ),
    _whole(
        "ept_vpid_cap",
        msr_name(VmxMsr.EPT_VPID_CAP),
        lambda profile: replace(profile, ept_caps=0),
        lambda profile: replace(profile, ept_caps=WORD & ~EPT_VPID_CAP.reserved_mask),
        lambda profile: f"{msr_name(VmxMsr.EPT_VPID_CAP)} is {profile.ept_caps:#x}",
    ),
    _whole(
        "maxphyaddr",
        "MAXPHYADDR",
        lambda profile: replace(profile, maxphyaddr=_LEAST_WIDTH),
        lambda profile: replace(profile, maxphyaddr=_MOST_WIDTH),
        lambda profile: f"MAXPHYADDR is {profile.maxphyaddr} (--maxphyaddr N for another machine)",
    ),
    _whole(
        "linear_bits",
        "the width of linear addresses",
        lambda profile: replace(profile, linear_bits=48),
        lambda profile: replace(profile, linear_bits=57),
        lambda profile: f"linear addresses have {profile.linear_bits} bits",
    ),
    _whole(
        "rtm",
        "RTM (CPUID.7:EBX bit 11)",
        lambda profile: replace(profile, rtm=False),
        lambda profile: replace(profile, rtm=True),
        lambda profile: f"CPUID.7:EBX bit 11, RTM, is {int(profile.rtm)}",
    ),
)
_BY_NAME = {one.name: one for one in CAPABILITIES}
#: The MSRs that give a 32-bit pair of allowed settings, and those that TRUE ones replace (SDM 3D §A.3 to §A.5).
_PAIRS = {
    VmxMsr.TRUE_PINBASED_CTLS: "pin",
    VmxMsr.TRUE_PROCBASED_CTLS: "primary",
    VmxMsr.TRUE_EXIT_CTLS: "exit",
    VmxMsr.TRUE_ENTRY_CTLS: "entry",
    VmxMsr.PROCBASED_CTLS2: "secondary",
}
_BEFORE_TRUE: dict[VmxMsr, tuple[VmxMsr, Layout]] = {
    VmxMsr.PINBASED_CTLS: (VmxMsr.TRUE_PINBASED_CTLS, PIN_BASED),
    VmxMsr.PROCBASED_CTLS: (VmxMsr.TRUE_PROCBASED_CTLS, PRIMARY_CONTROLS),
    VmxMsr.EXIT_CTLS: (VmxMsr.TRUE_EXIT_CTLS, EXIT_CONTROLS),
    VmxMsr.ENTRY_CTLS: (VmxMsr.TRUE_ENTRY_CTLS, ENTRY_CONTROLS),
}
_WIDE = {
    VmxMsr.PROCBASED_CTLS3: "tertiary",
    VmxMsr.EXIT_CTLS2: "secondary_exit",
    VmxMsr.VMFUNC: "vm_functions",
}


@dataclass(frozen=True, slots=True)
class KnownProcessor:
    """A profile of which the capabilities named in `unknown` are not known."""

    profile: CpuProfile
    unknown: frozenset[str] = frozenset()

    @classmethod
    def of(cls, profile: CpuProfile) -> "KnownProcessor":
        """Return what a profile tells: what it marks as unknown is so, and its width if machines of it differ."""
        widths = {"maxphyaddr"} if profile.other_widths else set()
        return cls(profile, frozenset((*profile.unknown, *widths)))

    @property
    def least(self) -> CpuProfile:
        """The least capable processor that this may be."""
        return _bound(self, most=False)

    @property
    def most(self) -> CpuProfile:
        """The most capable processor that this may be."""
        return _bound(self, most=True)

    def with_width(self, maxphyaddr: int) -> "KnownProcessor":
        """Return this processor with `maxphyaddr` physical-address bits."""
        return KnownProcessor(
            replace(self.profile, maxphyaddr=maxphyaddr, other_widths=()), self.unknown - {"maxphyaddr"}
        )

    def with_msrs(self, msrs: Mapping[int, int]) -> "KnownProcessor":
        """Return this processor with the capability MSRs that a machine reports: number to value."""
        found = self
        for number, value in msrs.items():
            if number not in set(VmxMsr):
                raise MisuseError(
                    f"MSR {number:#x} is no VMX capability MSR: give 0x480 to {max(VmxMsr):#x}, "
                    "0x48b = 0x553cfe00000000 for instance"
                )
            found = found._with_msr(VmxMsr(number), value, msrs)
        return found

    def _with_msr(self, msr: VmxMsr, value: int, all_msrs: Mapping[int, int]) -> "KnownProcessor":
        vmx = self.profile.vmx
        before = _BEFORE_TRUE.get(msr)
        if msr in _PAIRS:
            return self._told(_PAIRS[msr], _pair(msr, value))
        if before is not None:
            true, layout = before
            return self if true in all_msrs else self._told(_PAIRS[true], _freed(_pair(msr, value), layout))
        if msr in _WIDE:
            return self._told(_WIDE[msr], Allowed(0, value))
        if msr is VmxMsr.MISC:
            return self._told("misc", value)
        if msr is VmxMsr.BASIC:
            any_code = bool(VMX_BASIC.get(value, "any_error_code"))
            return self._told("basic", any_code, key="any_error_code")
        if msr is VmxMsr.EPT_VPID_CAP:
            known = value & ~EPT_VPID_CAP.reserved_mask
            return KnownProcessor(replace(self.profile, ept_caps=known), self.unknown - {"ept_vpid_cap"})
        if msr in (VmxMsr.CR0_FIXED0, VmxMsr.CR4_FIXED0):
            name = "cr0" if msr is VmxMsr.CR0_FIXED0 else "cr4"
            old = getattr(vmx, name)
            changed = _vmx(self.profile, **{name: Allowed(value, old.allowed1 | value)})
            return KnownProcessor(changed, self.unknown)
        if msr in (VmxMsr.CR0_FIXED1, VmxMsr.CR4_FIXED1):
            name = "cr0" if msr is VmxMsr.CR0_FIXED1 else "cr4"
            old = getattr(vmx, name)
            return self._told(name, Allowed(old.allowed0 & value, value))
        highest = VMX_VMCS_ENUM.get(value, "highest_index")
        return self._told("vmcs_enum", highest, key="highest_index")

    def _told(self, name: str, value: object, *, key: str | None = None) -> "KnownProcessor":
        return KnownProcessor(_vmx(self.profile, **{key or name: value}), self.unknown - {name})


@lru_cache(maxsize=1024)  # a check of a VMCS asks for the same few hundreds of times
def _bound(processor: KnownProcessor, *, most: bool) -> CpuProfile:
    profile = processor.profile
    for capability in CAPABILITIES:
        if capability.name in processor.unknown:
            profile = (capability.most if most else capability.least)(profile)
    return profile


def _pair(msr: VmxMsr, value: int) -> Allowed:
    said = VMX_CONTROLS.decode(value)
    if said["allowed0"] & ~said["allowed1"]:
        raise MisuseError(
            f"{msr_name(msr)} = {value:#x} says that bits {said['allowed0'] & ~said['allowed1']:#x} must be 1 and "
            "must be 0: the low half is what must be 1, the high half what may be"
        )
    return Allowed(said["allowed0"], said["allowed1"])


def _freed(allowed: Allowed, layout: Layout) -> Allowed:
    """Return `allowed` without the default1 controls that have a name: only a TRUE MSR tells whether they must be 1."""
    named = layout.default1_mask & ~layout.reserved_mask
    return replace(allowed, allowed0=allowed.allowed0 & ~named)


#: A processor of which nothing is known but that it has VMX.
ANY_PROCESSOR = KnownProcessor(
    replace(ARCHITECTURE, name="any processor", title="Any processor with VMX"),
    frozenset(_BY_NAME) - {"cr0"},
)
