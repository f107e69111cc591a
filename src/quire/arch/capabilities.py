"""VMX capability MSRs: what a processor lets software put into the VMCS and into CR0 and CR4 (SDM 3D §A).

Models the values of IA32_VMX_BASIC to IA32_VMX_EXIT_CTLS2 as data of a CPU profile. IA32_VMX_EPT_VPID_CAP is the
profile's own (`ept_caps`), next to its page sizes. Every profile has the TRUE capability MSRs; those before them
are computed by adding the default1 class. Fails with MisuseError for an MSR number that is none of these.
"""

from dataclasses import dataclass
from enum import IntEnum

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
from quire.arch.layout import Kind, Layout, bit, bits, reserved
from quire.arch.registers import CR0, CR4
from quire.errors import MisuseError

__all__ = [
    "ANY_VMX_CR4",
    "ARCHITECTURE_VMX",
    "SKYLAKE_X_VMX",
    "VMCS_REVISION",
    "VMX_BASIC",
    "VMX_CAPABILITIES",
    "VMX_CONTROLS",
    "VMX_MISC",
    "VMX_VMCS_ENUM",
    "Allowed",
    "VmxCapabilities",
    "VmxMsr",
]

#: VMCS revision identifier of this implementation; bit 31 is 0 for an ordinary VMCS.
VMCS_REVISION = 0x51554952

#: Memory type of the VMCS and what it points to: write-back.
_WRITE_BACK = 6

VMX_BASIC = Layout(
    "VMX_BASIC",
    64,
    "SDM 3D §A.1",
    (
        bits(0, 30, "revision", "VMCS revision identifier"),
        reserved(31),
        bits(32, 44, "region_size", "bytes of a VMXON or VMCS region, at most 4096"),
        reserved(45, 47),
        bit(48, "physical_32", "addresses in the VMCS have at most 32 bits"),
        bit(49, "dual_monitor", "dual-monitor treatment of SMIs and SMM"),
        bits(50, 53, "memory_type", "memory type of the VMCS and its data structures: 0 UC, 6 WB"),
        bit(54, "io_information", "VM exits of INS and OUTS report instruction information"),
        bit(55, "true_controls", "the TRUE capability MSRs exist: default1 controls may be 0"),
        bit(56, "any_error_code", "an injected exception may have an error code whatever its vector"),
        reserved(57),
        bit(58, "nested_exception", "events may be delivered as nested exceptions, with FRED"),
        reserved(59, 63),
    ),
)

VMX_CONTROLS = Layout(
    "VMX_CONTROLS",
    64,
    "SDM 3D §A.2",
    (
        bits(0, 31, "allowed0", "controls that must be 1: VM entry fails if one of them is 0"),
        bits(32, 63, "allowed1", "controls that may be 1: VM entry fails if another one is"),
    ),
)

VMX_MISC = Layout(
    "VMX_MISC",
    64,
    "SDM 3D §A.6",
    (
        bits(0, 4, "preemption_timer_shift", "the timer counts when this bit of the TSC changes"),
        bit(5, "store_lma", "VM exits store EFER.LMA into the IA-32e control: with unrestricted guest"),
        bit(6, "activity_hlt", "activity state HLT"),
        bit(7, "activity_shutdown", "activity state shutdown"),
        bit(8, "activity_wait_for_sipi", "activity state wait-for-SIPI"),
        reserved(9, 13),
        bit(14, "intel_pt", "Intel PT may be used in VMX operation"),
        bit(15, "rdmsr_smbase", "RDMSR reads IA32_SMBASE in SMM"),
        bits(16, 24, "cr3_targets", "number of CR3-target values"),
        bits(25, 27, "msr_list", "(N + 1) x 512 entries is the most for an MSR list"),
        bit(28, "smm_block", "IA32_SMM_MONITOR_CTL bit 2 may be 1"),
        bit(29, "vmwrite_any", "VMWRITE may write exit-information fields"),
        bit(30, "zero_length_injection", "software events may be injected with instruction length 0"),
        reserved(31),
        bits(32, 63, "mseg_revision", "MSEG revision identifier"),
    ),
)

VMX_VMCS_ENUM = Layout(
    "VMX_VMCS_ENUM",
    64,
    "SDM 3D §A.9",
    (reserved(0), bits(1, 9, "highest_index", "highest index of any field encoding"), reserved(10, 63)),
)


class VmxMsr(IntEnum):
    """Numbers of the capability MSRs (SDM 3D §A)."""

    BASIC = 0x480
    PINBASED_CTLS = 0x481
    PROCBASED_CTLS = 0x482
    EXIT_CTLS = 0x483
    ENTRY_CTLS = 0x484
    MISC = 0x485
    CR0_FIXED0 = 0x486
    CR0_FIXED1 = 0x487
    CR4_FIXED0 = 0x488
    CR4_FIXED1 = 0x489
    VMCS_ENUM = 0x48A
    PROCBASED_CTLS2 = 0x48B
    EPT_VPID_CAP = 0x48C
    TRUE_PINBASED_CTLS = 0x48D
    TRUE_PROCBASED_CTLS = 0x48E
    TRUE_EXIT_CTLS = 0x48F
    TRUE_ENTRY_CTLS = 0x490
    VMFUNC = 0x491
    PROCBASED_CTLS3 = 0x492
    EXIT_CTLS2 = 0x493


@dataclass(frozen=True, slots=True)
class Allowed:
    """The allowed settings of a control field or of CR0 or CR4.

    Bits of `allowed0` must be 1, bits outside `allowed1` must be 0. Raises MisuseError if a bit would have to be
    both.
    """

    allowed0: int
    allowed1: int

    def __post_init__(self) -> None:
        if self.allowed0 & ~self.allowed1:
            raise MisuseError(
                f"Bits {self.allowed0 & ~self.allowed1:#x} must be 1 and must be 0: "
                "add them to allowed1 or take them from allowed0"
            )

    def permits(self, value: int) -> bool:
        """Return whether VM entry takes `value`."""
        return not (self.allowed0 & ~value or value & ~self.allowed1)

    def adjust(self, value: int) -> int:
        """Return `value` with the bits that must be 1; a bit that must be 0 is left for VM entry to refuse."""
        return value | self.allowed0

    @property
    def msr(self) -> int:
        """The value of the capability MSR of a 32-bit control field."""
        return VMX_CONTROLS.encode(allowed0=self.allowed0, allowed1=self.allowed1)


def _default1(layout: Layout) -> tuple[int, int]:
    """Return (allowed0, default1) of a control field: what must be 1, and what must be on older processors.

    Of the default1 class of SDM 3D §A.2 those bits that have got a name may be 0.
    """
    return layout.default1_mask & layout.reserved_mask, layout.default1_mask


_LAYOUTS = {
    "pin": PIN_BASED,
    "primary": PRIMARY_CONTROLS,
    "secondary": SECONDARY_CONTROLS,
    "tertiary": TERTIARY_CONTROLS,
    "exit": EXIT_CONTROLS,
    "secondary_exit": SECONDARY_EXIT_CONTROLS,
    "entry": ENTRY_CONTROLS,
}
#: The capabilities that a profile may leave unknown: fields of :class:`VmxCapabilities` and the MSRs behind the rest.
VMX_CAPABILITIES = (*_LAYOUTS, "vm_functions", "cr4", "misc", "basic", "ept_vpid_cap", "vmcs_enum")
_PIN0, _PIN_DEFAULT1 = _default1(PIN_BASED)
_PRIMARY0, _PRIMARY_DEFAULT1 = _default1(PRIMARY_CONTROLS)
_EXIT0, _EXIT_DEFAULT1 = _default1(EXIT_CONTROLS)
_ENTRY0, _ENTRY_DEFAULT1 = _default1(ENTRY_CONTROLS)


@dataclass(frozen=True, slots=True)
class VmxCapabilities:
    """What VMX offers on a processor: settings allowed to each control field, to CR0 and to CR4.

    `misc` is the value of IA32_VMX_MISC, `highest_index` the highest index of any VMCS field, `any_error_code`
    bit 56 of IA32_VMX_BASIC. The allowed settings are those of the TRUE capability MSRs.
    """

    pin: Allowed
    primary: Allowed
    secondary: Allowed
    tertiary: Allowed
    exit: Allowed
    secondary_exit: Allowed
    entry: Allowed
    vm_functions: Allowed
    cr0: Allowed
    cr4: Allowed
    misc: int
    highest_index: int
    any_error_code: bool

    def offers(self, group: str, control: str) -> bool:
        """Return whether `control` may be 1; `group` is ``pin``, ``primary``, ``secondary``, ``entry`` and so on.

        Raises MisuseError for a control or group that does not exist.
        """
        layout = _LAYOUTS.get(group)
        if layout is None:
            raise MisuseError(f"No group of controls is called {group!r}: give one of {', '.join(_LAYOUTS)}")
        allowed: Allowed = getattr(self, group)
        return bool(allowed.allowed1 & layout.mask(control))

    @property
    def cr3_targets(self) -> int:
        """The number of CR3-target values that the processor supports."""
        return VMX_MISC.get(self.misc, "cr3_targets")

    def msr(self, number: int) -> int:
        """Return the 64-bit value of capability MSR `number`.

        SDM 3D §A. Raises MisuseError for IA32_VMX_EPT_VPID_CAP, which the profile has, and for another MSR.
        """
        found = self._msrs().get(number)
        if found is None:
            raise MisuseError(
                f"MSR {number:#x} is not a capability MSR of these: give one of VmxMsr; "
                "IA32_VMX_EPT_VPID_CAP is CpuProfile.ept_caps"
            )
        return found

    def _msrs(self) -> dict[int, int]:
        basic = VMX_BASIC.encode(
            revision=VMCS_REVISION,
            region_size=4096,
            memory_type=_WRITE_BACK,
            io_information=1,
            true_controls=1,
            any_error_code=int(self.any_error_code),
        )
        return {
            VmxMsr.BASIC: basic,
            VmxMsr.PINBASED_CTLS: self.pin.msr | _PIN_DEFAULT1,
            VmxMsr.PROCBASED_CTLS: self.primary.msr | _PRIMARY_DEFAULT1,
            VmxMsr.EXIT_CTLS: self.exit.msr | _EXIT_DEFAULT1,
            VmxMsr.ENTRY_CTLS: self.entry.msr | _ENTRY_DEFAULT1,
            VmxMsr.MISC: self.misc,
            VmxMsr.CR0_FIXED0: self.cr0.allowed0,
            VmxMsr.CR0_FIXED1: self.cr0.allowed1,
            VmxMsr.CR4_FIXED0: self.cr4.allowed0,
            VmxMsr.CR4_FIXED1: self.cr4.allowed1,
            VmxMsr.VMCS_ENUM: VMX_VMCS_ENUM.encode(highest_index=self.highest_index),
            VmxMsr.PROCBASED_CTLS2: self.secondary.msr,
            VmxMsr.TRUE_PINBASED_CTLS: self.pin.msr,
            VmxMsr.TRUE_PROCBASED_CTLS: self.primary.msr,
            VmxMsr.TRUE_EXIT_CTLS: self.exit.msr,
            VmxMsr.TRUE_ENTRY_CTLS: self.entry.msr,
            VmxMsr.VMFUNC: self.vm_functions.allowed1,
            VmxMsr.PROCBASED_CTLS3: self.tertiary.allowed1,
            VmxMsr.EXIT_CTLS2: self.secondary_exit.allowed1,
        }


def _named(layout: Layout) -> int:
    """Return the bits of `layout` that mean something."""
    return layout.mask(*(one.name for one in layout.fields if one.kind is Kind.FIELD))


# CR0.NW and CR0.CD may be anything; so may the bits that the processor ignores.
_CR0 = Allowed(CR0.mask("PE", "NE", "PG"), CR0.mask(*(one.name for one in CR0.fields if one.high < 32)))

#: Bits of CR4 that every processor with VMX and 64-bit mode has.
ANY_VMX_CR4 = CR4.mask(
    "VME", "PVI", "TSD", "DE", "PSE", "PAE", "MCE", "PGE", "PCE", "OSFXSR", "OSXMMEXCPT", "VMXE"
)
_SKYLAKE_X_CR4 = ANY_VMX_CR4 | CR4.mask(
    "SMXE",
    "FSGSBASE",
    "PCIDE",
    "OSXSAVE",
    "SMEP",
    "SMAP",
    "PKE",
)

# From the values that such machines report; posted interrupts, MPX, TSC scaling and mode-based execute included.
SKYLAKE_X_VMX = VmxCapabilities(
    pin=Allowed(_PIN0, 0x0000_00FF),
    primary=Allowed(_PRIMARY0, 0xFFF9_FFFE),
    secondary=Allowed(
        0,
        _named(SECONDARY_CONTROLS)
        & ~SECONDARY_CONTROLS.mask(
            "enable_encls_exiting",
            "enable_pasid_translation",
            "sub_page_write_permissions",
            "intel_pt_uses_guest_physical",
            "enable_user_wait_and_pause",
            "enable_pconfig",
            "enable_enclv_exiting",
            "bus_lock_detection",
            "instruction_timeout",
        ),
    ),
    tertiary=Allowed(0, 0),
    exit=Allowed(_EXIT0, 0x01FF_FFFF),
    secondary_exit=Allowed(0, 0),
    entry=Allowed(_ENTRY0, 0x0003_FFFF),
    vm_functions=Allowed(0, VM_FUNCTION_CONTROLS.mask("eptp_switching")),
    cr0=_CR0,
    cr4=Allowed(CR4.mask("VMXE"), _SKYLAKE_X_CR4),
    misc=VMX_MISC.encode(
        preemption_timer_shift=7,
        store_lma=1,
        activity_hlt=1,
        activity_shutdown=1,
        activity_wait_for_sipi=1,
        intel_pt=1,
        rdmsr_smbase=1,
        cr3_targets=4,
        smm_block=1,
        vmwrite_any=1,
        zero_length_injection=1,
    ),
    highest_index=25,  # the TSC multiplier
    any_error_code=False,
)

#: Every control that has a name.
ARCHITECTURE_VMX = VmxCapabilities(
    pin=Allowed(_PIN0, _PIN_DEFAULT1 | _named(PIN_BASED)),
    primary=Allowed(_PRIMARY0, _PRIMARY_DEFAULT1 | _named(PRIMARY_CONTROLS)),
    secondary=Allowed(0, _named(SECONDARY_CONTROLS)),
    tertiary=Allowed(0, _named(TERTIARY_CONTROLS)),
    exit=Allowed(_EXIT0, _EXIT_DEFAULT1 | _named(EXIT_CONTROLS)),
    secondary_exit=Allowed(0, _named(SECONDARY_EXIT_CONTROLS)),
    entry=Allowed(_ENTRY0, _ENTRY_DEFAULT1 | _named(ENTRY_CONTROLS)),
    vm_functions=Allowed(0, _named(VM_FUNCTION_CONTROLS)),
    cr0=_CR0,
    cr4=Allowed(CR4.mask("VMXE"), _named(CR4)),
    misc=SKYLAKE_X_VMX.misc & ~VMX_MISC.mask("vmwrite_any", "zero_length_injection"),
    highest_index=41,  # injected-event data
    any_error_code=True,
)
