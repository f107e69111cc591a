"""VMCSs that a processor enters, one for each kind of guest: what the cases then spoil, a field at a time."""

from quire.arch import (
    CR0,
    CR4,
    ENTRY_CONTROLS,
    EXIT_CONTROLS,
    PIN_BASED,
    PRIMARY_CONTROLS,
    SECONDARY_CONTROLS,
    VmxMsr,
)

__all__ = ["BASES", "EPT_ROOT", "long_mode"]

Fields = dict[str, int]
Words = list[tuple[int, int]]

EPT_ROOT = 0x1_0000
#: Pages that controls point to; empty but for what a base puts there.
IO_A, IO_B, MSR_BITMAP, VIRTUAL_APIC, APIC_ACCESS = 0x5000, 0x6000, 0x7000, 0x8000, 0x9000
STORE_LIST, EXIT_LIST, ENTRY_LIST, VMREAD, VMWRITE, EPTP_LIST, VE_AREA = range(0xA000, 0x11000, 0x1000)
PDPT = 0x1_2000
ALL_ONES = (1 << 64) - 1
_PAT = 0x0007_0406_0007_0406
_PAGED = CR0.encode(PE=1, MP=1, ET=1, NE=1, WP=1, PG=1)
_HOST_CR4 = CR4.encode(PAE=1, OSFXSR=1, OSXMMEXCPT=1, VMXE=1)
_MINIMAL = {"pin": VmxMsr.TRUE_PINBASED_CTLS, "primary": VmxMsr.TRUE_PROCBASED_CTLS}


def _must(capabilities: dict[int, int], msr: VmxMsr) -> int:
    """Return the controls that must be 1."""
    return capabilities[msr] & 0xFFFF_FFFF


def _host(about: dict[str, int]) -> Fields:
    return {
        "host_cr0": 0x8005_0033,
        "host_cr3": about["cr3"],
        "host_cr4": _HOST_CR4,
        "host_rip": about["rip"],
        "host_rsp": about["rsp"],
        "host_ia32_efer": 0xD00,
        "host_ia32_pat": _PAT,
        "host_cs_selector": 0x10,
        "host_tr_selector": 0x20,
        **{f"host_{name}_selector": 0x18 for name in ("es", "ss", "ds", "fs", "gs")},
        **{f"host_{name}_base": 0 for name in ("fs", "gs", "tr", "gdtr", "idtr")},
        **{f"host_ia32_sysenter_{name}": 0 for name in ("cs", "esp", "eip")},
    }


def _segments(code: int, data: int, limit: int = 0xFFFF_FFFF, level: int = 0) -> Fields:
    fields = {}
    for name, rights in (("cs", code), *((name, data) for name in ("ss", "ds", "es", "fs", "gs"))):
        fields[f"guest_{name}_selector"] = (0x10 if name == "cs" else 0x18) | level
        fields[f"guest_{name}_base"], fields[f"guest_{name}_limit"] = 0, limit
        fields[f"guest_{name}_access_rights"] = rights | level << 5
    for name, selector, rights in (("ldtr", 0x28, 0x82), ("tr", 0x20, 0x8B)):
        fields[f"guest_{name}_selector"], fields[f"guest_{name}_access_rights"] = selector, rights
        fields[f"guest_{name}_base"], fields[f"guest_{name}_limit"] = 0, 0x67
    for name in ("gdtr", "idtr"):
        fields[f"guest_{name}_base"], fields[f"guest_{name}_limit"] = 0, 0xFFFF
    return fields


def _guest(cr0: int, cr4: int) -> Fields:
    return {
        "guest_cr0": cr0,
        "guest_cr3": 0x1000,
        "guest_cr4": cr4 | CR4.mask("VMXE"),
        "guest_dr7": 0x400,
        "guest_rsp": 0x2000,
        "guest_rip": 0x3000,
        "guest_rflags": 2,
        "guest_ia32_debugctl": 0,
        "guest_ia32_pat": _PAT,
        "guest_ia32_efer": 0,
        "vmcs_link_pointer": ALL_ONES,
        **{f"guest_ia32_sysenter_{name}": 0 for name in ("cs", "esp", "eip")},
        **{f"guest_pdpte{n}": 0 for n in range(4)},
        **{f"guest_{name}": 0 for name in ("interruptibility_state", "activity_state")},
        "guest_pending_debug_exceptions": 0,
    }


def _controls(
    capabilities: dict[int, int], secondary: int, *, entry: int, primary: int = 0, pin: int = 0
) -> Fields:
    loads = EXIT_CONTROLS.encode(host_address_space_size=1, load_efer=1, load_pat=1)
    pin |= PIN_BASED.encode(activate_preemption_timer=1, nmi_exiting=1, external_interrupt_exiting=1)
    primary |= PRIMARY_CONTROLS.encode(hlt_exiting=1, activate_secondary_controls=1)
    return {
        "pin_based_controls": pin | _must(capabilities, VmxMsr.TRUE_PINBASED_CTLS),
        "primary_processor_based_controls": primary | _must(capabilities, VmxMsr.TRUE_PROCBASED_CTLS),
        "secondary_processor_based_controls": secondary,
        "vm_exit_controls": loads | _must(capabilities, VmxMsr.TRUE_EXIT_CTLS),
        "vm_entry_controls": entry | _must(capabilities, VmxMsr.TRUE_ENTRY_CTLS),
        "exception_bitmap": 0xFFFF_FFFF,
        "vmx_preemption_timer_value": 0,
        "ept_pointer": EPT_ROOT | 3 << 3 | 6,
        "virtual_processor_identifier": 1,
        **dict.fromkeys(_ZERO, 0),
    }


# Fields that a base sets to 0 unless it says otherwise, so that the cases know what they flip.
_ZERO = (
    *("page_fault_error_code_mask", "page_fault_error_code_match", "cr3_target_count", "tpr_threshold"),
    *("vm_exit_msr_store_count", "vm_exit_msr_load_count", "vm_entry_msr_load_count"),
    *("vm_entry_interruption_information", "vm_entry_exception_error_code", "vm_entry_instruction_length"),
    *("cr0_guest_host_mask", "cr4_guest_host_mask", "cr0_read_shadow", "cr4_read_shadow"),
    *("io_bitmap_a_address", "io_bitmap_b_address", "msr_bitmaps_address", "tsc_offset"),
    *("virtual_apic_address", "apic_access_address", "vm_exit_msr_store_address"),
    *("vm_exit_msr_load_address", "vm_entry_msr_load_address"),
)
_EPT = SECONDARY_CONTROLS.encode(enable_ept=1, enable_vpid=1)
_UNRESTRICTED = SECONDARY_CONTROLS.encode(enable_ept=1, enable_vpid=1, unrestricted_guest=1)


def long_mode(about: dict[str, int], capabilities: dict[int, int], secondary: int = _EPT) -> Fields:
    """Return a VMCS whose guest is in 64-bit mode at CPL 0."""
    entry = ENTRY_CONTROLS.encode(ia32e_guest=1, load_efer=1, load_pat=1, load_debug_controls=1)
    return {
        **_controls(capabilities, secondary, entry=entry),
        **_host(about),
        **_guest(_PAGED, CR4.encode(PAE=1)),
        **_segments(0xA09B, 0xC093),
        "guest_ia32_efer": 0xD00,
    }


def _user(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    return {**long_mode(about, capabilities), **_segments(0xA09B, 0xC093, level=3)}


def _pae(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    entry = ENTRY_CONTROLS.encode(load_efer=1, load_pat=1, load_debug_controls=1)
    return {
        **_controls(capabilities, _EPT, entry=entry),
        **_host(about),
        **_guest(_PAGED, CR4.encode(PAE=1)),
        **_segments(0xC09B, 0xC093),
        "guest_pdpte0": 0x2001,
        "guest_pdpte1": 0x2001,
    }


def _pae_without_ept(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    return {**_pae(about, capabilities), "secondary_processor_based_controls": 0, "guest_cr3": PDPT}


def _real(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    return {
        **_controls(capabilities, _UNRESTRICTED, entry=ENTRY_CONTROLS.mask("load_efer")),
        **_host(about),
        **_guest(CR0.encode(ET=1, NE=1), 0),
        **_segments(0x93, 0x93, limit=0xFFFF),
    }


def _virtual_8086(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    segments = _segments(0xF3, 0xF3, limit=0xFFFF)
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        segments[f"guest_{name}_base"] = segments[f"guest_{name}_selector"] << 4
    return {
        **_controls(capabilities, _EPT, entry=ENTRY_CONTROLS.mask("load_efer")),
        **_host(about),
        **_guest(_PAGED, 0),
        **segments,
        "guest_rflags": 0x2_0002,
    }


def _bitmaps(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    """Every control that points to memory, VMCS shadowing and EPTP switching included; MSR lists of two entries."""
    secondary = _UNRESTRICTED | SECONDARY_CONTROLS.encode(
        virtualize_apic_accesses=1,
        enable_vm_functions=1,
        vmcs_shadowing=1,
        ept_violation_ve=1,
        mode_based_execute=1,
        use_tsc_scaling=1,
    )
    primary = PRIMARY_CONTROLS.encode(use_tpr_shadow=1, use_io_bitmaps=1, use_msr_bitmaps=1)
    fields = long_mode(about, capabilities)
    fields["pin_based_controls"] |= PIN_BASED.mask("virtual_nmis")
    fields["primary_processor_based_controls"] |= primary
    return {
        **fields,
        "secondary_processor_based_controls": secondary,
        "io_bitmap_a_address": IO_A,
        "io_bitmap_b_address": IO_B,
        "msr_bitmaps_address": MSR_BITMAP,
        "virtual_apic_address": VIRTUAL_APIC,
        "apic_access_address": APIC_ACCESS,
        "vm_exit_msr_store_address": STORE_LIST,
        "vm_exit_msr_load_address": EXIT_LIST,
        "vm_entry_msr_load_address": ENTRY_LIST,
        "vm_exit_msr_store_count": 2,
        "vm_exit_msr_load_count": 2,
        "vm_entry_msr_load_count": 2,
        "vmread_bitmap_address": VMREAD,
        "vmwrite_bitmap_address": VMWRITE,
        "vm_function_controls": 1,
        "eptp_list_address": EPTP_LIST,
        "virtualization_exception_information_address": VE_AREA,
        "eptp_index": 0,
        "tsc_multiplier": 1 << 48,
    }


def _tpr(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
    """A TPR shadow without a virtualized APIC page: then the threshold must not be above VTPR."""
    fields = long_mode(about, capabilities)
    fields["primary_processor_based_controls"] |= PRIMARY_CONTROLS.mask("use_tpr_shadow")
    return {**fields, "virtual_apic_address": VIRTUAL_APIC}


def _injected(information: int, **more: int):  # type: ignore[no-untyped-def]
    def base(about: dict[str, int], capabilities: dict[int, int]) -> Fields:
        return {**long_mode(about, capabilities), "vm_entry_interruption_information": information, **more}

    return base


_TSC_AUX, _STAR = 0xC000_0103, 0xC000_0081
_LISTS: Words = [
    (at + 16 * n + 8 * half, value)
    for at in (STORE_LIST, EXIT_LIST, ENTRY_LIST)
    for n, msr in enumerate((_STAR, _TSC_AUX))
    for half, value in enumerate((msr, 0))
]
#: Name to (function of the host's registers and the capability MSRs, words of memory).
BASES = {
    "long mode": (long_mode, []),
    "long mode, CPL 3": (_user, []),
    "PAE": (_pae, []),
    "PAE without EPT": (_pae_without_ept, [(PDPT, 0x2001), (PDPT + 8, 0x2001)]),
    "real mode": (_real, []),
    "virtual-8086": (_virtual_8086, []),
    "all pointers": (_bitmaps, _LISTS),
    "TPR shadow": (_tpr, [(VIRTUAL_APIC + 0x80, 0x70)]),
    "external interrupt": (_injected(0x8000_0030, guest_rflags=0x202), []),
    "NMI": (_injected(0x8000_0202), []),
    "#GP": (_injected(0x8000_0B0D), []),
    "INT n": (_injected(0x8000_0480, vm_entry_instruction_length=2), []),
}
