"""Checks of the VM-execution control fields (SDM 3C §26.2.1.1).

Does not model checks that depend on state outside the VMCS and memory, as of an APIC that is not there.
"""

from quire.arch import EPT_VPID_CAP, EPTP, Allowed, CpuProfile, MemoryType
from quire.vcpu.checks.rule import CONTROLS, Check, EntryRule, EntryView, bits_above

__all__ = ["RULES", "ept_pointer_reserved", "ept_pointer_valid"]

_SECTION = "SDM 3C §26.2.1.1"
_WALK_LENGTHS = {3: "walk_length_4", 4: "walk_length_5"}
_MEMORY_TYPES = {MemoryType.UC: "memory_type_uc", MemoryType.WB: "memory_type_wb"}


def _rule(name: str, field: str, wants: str, holds: Check) -> EntryRule:
    return EntryRule(name, _SECTION, field, wants, CONTROLS, holds)


def _address(name: str, field: str, control: str, low_bits: int = 12) -> EntryRule:
    """Return the rule of a physical address that a secondary control makes the processor use."""
    return _rule(
        name,
        field,
        f"aligned to {1 << low_bits:#x} and below 1 << MAXPHYADDR",
        lambda view: not view.secondary(control) or view.is_physical(view.read(field), low_bits),
    )


def _bitmap(name: str, field: str, control: str) -> EntryRule:
    """Return the rule of a page address that a primary control makes the processor use."""
    return _rule(
        name,
        field,
        "aligned to 0x1000 and below 1 << MAXPHYADDR",
        lambda view: not view.primary(control) or view.is_physical(view.read(field), 12),
    )


def _needs_ept(control: str) -> EntryRule:
    words = control.replace("_", " ")
    return _rule(
        f"{words} needs EPT",
        "secondary_processor_based_controls",
        f"with enable EPT when it has {words}",
        lambda view: not view.secondary(control) or bool(view.secondary("enable_ept")),
    )


def _allowed(view: EntryView, field: str, allowed: Allowed) -> bool:
    return allowed.permits(view.read(field))


def _secondary_allowed(view: EntryView) -> bool:
    allowed = view.profile.vmx.secondary
    return not view.primary("activate_secondary_controls") or _allowed(
        view, "secondary_processor_based_controls", allowed
    )


def _tertiary_allowed(view: EntryView) -> bool:
    allowed = view.profile.vmx.tertiary
    return not view.primary("activate_tertiary_controls") or _allowed(
        view, "tertiary_processor_based_controls", allowed
    )


def _cr3_targets(view: EntryView) -> bool:
    return view.read("cr3_target_count") <= view.profile.vmx.cr3_targets


def _tpr_threshold_bits(view: EntryView) -> bool:
    if not view.primary("use_tpr_shadow") or view.secondary("virtual_interrupt_delivery"):
        return True
    return not view.read("tpr_threshold") >> 4


def _tpr_threshold_reached(view: EntryView) -> bool:
    if not view.primary("use_tpr_shadow") or view.secondary("virtualize_apic_accesses"):
        return True
    if view.secondary("virtual_interrupt_delivery"):
        return True
    vtpr = view.physical(view.read("virtual_apic_address") + 0x80, 1)
    return view.read("tpr_threshold") & 0xF <= vtpr >> 4


def _tpr_shadow(view: EntryView) -> bool:
    if view.primary("use_tpr_shadow"):
        return True
    return not (
        view.secondary("virtualize_x2apic_mode")
        or view.secondary("apic_register_virtualization")
        or view.secondary("virtual_interrupt_delivery")
        or view.tertiary("ipi_virtualization")
    )


def _posted(view: EntryView) -> bool:
    return not view.pin("process_posted_interrupts") or bool(view.secondary("virtual_interrupt_delivery"))


def _posted_acknowledge(view: EntryView) -> bool:
    return not view.pin("process_posted_interrupts") or bool(view.exit("acknowledge_interrupt_on_exit"))


def _posted_vector(view: EntryView) -> bool:
    vector = view.read("posted_interrupt_notification_vector")
    return not view.pin("process_posted_interrupts") or vector <= 0xFF


def _posted_descriptor(view: EntryView) -> bool:
    address = view.read("posted_interrupt_descriptor_address")
    return not view.pin("process_posted_interrupts") or view.is_physical(address, 6)


def ept_pointer_valid(eptp: int, profile: CpuProfile) -> bool:
    """Return whether `eptp` passes the checks but for reserved bits: of VM entry, and of EPTP switching."""
    said, caps = EPTP.decode(eptp), EPT_VPID_CAP.decode(profile.ept_caps)
    memory_type = _MEMORY_TYPES.get(MemoryType(said["MT"])) if said["MT"] in _MEMORY_TYPES else None
    walk_length = _WALK_LENGTHS.get(said["walk_length"])
    return (
        memory_type is not None
        and walk_length is not None
        and bool(caps[memory_type] and caps[walk_length])
        and (not said["AD"] or bool(caps["accessed_dirty"]))
        and (not said["SSS"] or bool(caps["sss"]))
    )


def ept_pointer_reserved(eptp: int, profile: CpuProfile) -> bool:
    """Return whether `eptp` leaves its reserved bits and those beyond the physical-address width clear."""
    return not eptp & (EPTP.reserved_mask | bits_above(profile.maxphyaddr))


def _ept_pointer(view: EntryView) -> bool:
    return not view.secondary("enable_ept") or ept_pointer_valid(view.read("ept_pointer"), view.profile)


def _ept_reserved(view: EntryView) -> bool:
    return not view.secondary("enable_ept") or ept_pointer_reserved(view.read("ept_pointer"), view.profile)


def _vpid(view: EntryView) -> bool:
    return not view.secondary("enable_vpid") or view.read("virtual_processor_identifier") != 0


def _vm_functions(view: EntryView) -> bool:
    allowed = view.profile.vmx.vm_functions
    return not view.secondary("enable_vm_functions") or _allowed(view, "vm_function_controls", allowed)


def _switches_eptp(view: EntryView) -> bool:
    return bool(view.secondary("enable_vm_functions") and view.read("vm_function_controls") & 1)


def _eptp_switching(view: EntryView) -> bool:
    return not _switches_eptp(view) or bool(view.secondary("enable_ept"))


def _eptp_list(view: EntryView) -> bool:
    return not _switches_eptp(view) or view.is_physical(view.read("eptp_list_address"), 12)


def _pt_guest_physical(view: EntryView) -> bool:
    if not view.secondary("intel_pt_uses_guest_physical"):
        return True
    return bool(view.entry("load_rtit_ctl") and view.exit("clear_rtit_ctl"))


def _tsc_multiplier(view: EntryView) -> bool:
    return not view.secondary("use_tsc_scaling") or view.read("tsc_multiplier") != 0


def _paging_write(view: EntryView) -> bool:
    if not view.tertiary("ept_paging_write") and not view.tertiary("guest_paging_verification"):
        return True
    return bool(view.secondary("enable_ept"))


def _hlat_pointer(view: EntryView) -> bool:
    # Bits 4:3 are PWT and PCD, as in CR3; the other low bits are reserved here.
    return not view.tertiary("enable_hlat") or view.is_root(view.read("hlat_pointer"), 0xFE7)


def _hlat_prefix(view: EntryView) -> bool:
    largest = EPT_VPID_CAP.get(view.profile.ept_caps, "max_hlat_prefix")
    return not view.tertiary("enable_hlat") or view.read("hlat_prefix_size") <= largest


def _pid_pointers(view: EntryView) -> bool:
    return not view.tertiary("ipi_virtualization") or not view.read("pid_pointer_table_address") & 7


def _pid_pointers_end(view: EntryView) -> bool:
    last = view.read("pid_pointer_table_address") + 8 * view.read("last_pid_pointer_index") + 7
    return not view.tertiary("ipi_virtualization") or view.is_physical(last)


_APIC = "secondary_processor_based_controls"
_NMI = "pin_based_controls"

RULES: tuple[EntryRule, ...] = (
    _rule(
        "pin-based controls",
        _NMI,
        "as IA32_VMX_TRUE_PINBASED_CTLS allows",
        lambda view: _allowed(view, _NMI, view.profile.vmx.pin),
    ),
    _rule(
        "primary controls",
        "primary_processor_based_controls",
        "as IA32_VMX_TRUE_PROCBASED_CTLS allows",
        lambda view: _allowed(view, "primary_processor_based_controls", view.profile.vmx.primary),
    ),
    _rule("secondary controls", _APIC, "as IA32_VMX_PROCBASED_CTLS2 allows", _secondary_allowed),
    _rule(
        "tertiary controls",
        "tertiary_processor_based_controls",
        "as IA32_VMX_PROCBASED_CTLS3 allows",
        _tertiary_allowed,
    ),
    _rule("CR3-target count", "cr3_target_count", "at most what IA32_VMX_MISC says, 4", _cr3_targets),
    _bitmap("I/O bitmap A", "io_bitmap_a_address", "use_io_bitmaps"),
    _bitmap("I/O bitmap B", "io_bitmap_b_address", "use_io_bitmaps"),
    _bitmap("MSR bitmaps", "msr_bitmaps_address", "use_msr_bitmaps"),
    _bitmap("virtual-APIC page", "virtual_apic_address", "use_tpr_shadow"),
    _rule(
        "TPR threshold bits",
        "tpr_threshold",
        "0 in bits 31:4 without virtual-interrupt delivery",
        _tpr_threshold_bits,
    ),
    _rule(
        "TPR threshold reached",
        "tpr_threshold",
        "at most bits 7:4 of VTPR, unless accesses to the APIC page are virtualized",
        _tpr_threshold_reached,
    ),
    _rule(
        "virtual NMIs",
        _NMI,
        "with NMI exiting when it has virtual NMIs",
        lambda view: bool(view.pin("nmi_exiting")) or not view.pin("virtual_nmis"),
    ),
    _rule(
        "NMI-window exiting",
        "primary_processor_based_controls",
        "without NMI-window exiting unless there are virtual NMIs",
        lambda view: bool(view.pin("virtual_nmis")) or not view.primary("nmi_window_exiting"),
    ),
    _address("APIC-access page", "apic_access_address", "virtualize_apic_accesses"),
    _rule(
        "TPR shadow", _APIC, "without x2APIC, APIC-register, interrupt and IPI virtualization", _tpr_shadow
    ),
    _rule(
        "x2APIC mode",
        _APIC,
        "without virtualize APIC accesses when it has virtualize x2APIC mode",
        lambda view: (
            not view.secondary("virtualize_x2apic_mode") or not view.secondary("virtualize_apic_accesses")
        ),
    ),
    _rule(
        "virtual-interrupt delivery",
        _NMI,
        "with external-interrupt exiting when virtual interrupts are delivered",
        lambda view: (
            not view.secondary("virtual_interrupt_delivery") or bool(view.pin("external_interrupt_exiting"))
        ),
    ),
    _rule("posted interrupts", _NMI, "without posted interrupts unless virtual ones are delivered", _posted),
    _rule(
        "posted-interrupt acknowledgement",
        "vm_exit_controls",
        "with acknowledge interrupt on exit when posted interrupts are processed",
        _posted_acknowledge,
    ),
    _rule(
        "posted-interrupt vector",
        "posted_interrupt_notification_vector",
        "from 0 to 0xff when posted interrupts are processed",
        _posted_vector,
    ),
    _rule(
        "posted-interrupt descriptor",
        "posted_interrupt_descriptor_address",
        "aligned to 0x40 and below 1 << MAXPHYADDR",
        _posted_descriptor,
    ),
    _rule("VPID", "virtual_processor_identifier", "1 to 0xffff with VPIDs", _vpid),
    _rule(
        "EPT pointer",
        "ept_pointer",
        "of memory type 0 or 6, a walk length and flags as the CPU allows",
        _ept_pointer,
    ),
    _rule(
        "EPT pointer reserved bits",
        "ept_pointer",
        "0 in bits 11:8 and 63:MAXPHYADDR",
        _ept_reserved,
    ),
    _needs_ept("enable_pml"),
    _address("PML address", "pml_address", "enable_pml"),
    _needs_ept("unrestricted_guest"),
    _needs_ept("mode_based_execute"),
    _needs_ept("sub_page_write_permissions"),
    _address("SPP table", "sub_page_permission_table_pointer", "sub_page_write_permissions"),
    _rule("VM functions", "vm_function_controls", "as IA32_VMX_VMFUNC allows", _vm_functions),
    _rule("EPTP switching needs EPT", _APIC, "with enable EPT when EPTP switching is on", _eptp_switching),
    _rule("EPTP list", "eptp_list_address", "aligned to 0x1000 and below 1 << MAXPHYADDR", _eptp_list),
    _address("VMREAD bitmap", "vmread_bitmap_address", "vmcs_shadowing"),
    _address("VMWRITE bitmap", "vmwrite_bitmap_address", "vmcs_shadowing"),
    _address("#VE information", "virtualization_exception_information_address", "ept_violation_ve"),
    _needs_ept("intel_pt_uses_guest_physical"),
    _rule(
        "Intel PT in guest-physical memory",
        _APIC,
        "without it unless the entry loads and the exit clears IA32_RTIT_CTL",
        _pt_guest_physical,
    ),
    _rule("TSC multiplier", "tsc_multiplier", "other than 0 with TSC scaling", _tsc_multiplier),
    _address("low PASID directory", "low_pasid_directory_address", "enable_pasid_translation"),
    _address("high PASID directory", "high_pasid_directory_address", "enable_pasid_translation"),
    _rule(
        "paging-write and verification need EPT",
        "tertiary_processor_based_controls",
        "without EPT paging-write and guest-paging verification unless EPT is enabled",
        _paging_write,
    ),
    _rule(
        "HLAT pointer", "hlat_pointer", "0 in bits 2:0, 11:5 and 63:MAXPHYADDR when HLAT is on", _hlat_pointer
    ),
    _rule("HLAT prefix", "hlat_prefix_size", "at most what IA32_VMX_EPT_VPID_CAP says", _hlat_prefix),
    _rule("PID-pointer table", "pid_pointer_table_address", "aligned to 8", _pid_pointers),
    _rule(
        "end of PID-pointer table",
        "pid_pointer_table_address",
        "such that its last entry ends below 1 << MAXPHYADDR",
        _pid_pointers_end,
    ),
)
